"""The answer that both apps write: 4,000 characters in 1,000 pieces, 10 ms apart."""

import asyncio
import time
from collections.abc import AsyncGenerator

from chatkit.engine import Delta, Usage
from chatkit.engines.opening import LoadOptions
from chatkit.engines.scripted import ScriptedEngine
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling

LENGTH, PIECE, PAUSE = 4_000, 4, 0.01
IDEAL_SECONDS = LENGTH / PIECE * PAUSE
_PARAGRAPH = (
    "The tide *rises and falls* twice a day, since the moon draws the water of the sea, and the "
    "earth turns below it. Where the coast is steep one hardly sees it; where it is flat, the "
    "**water goes out for miles**, and comes back as quickly as a horse can run.\n\n"
    "- first the ebb\n- then the flood\n\n"
    "```python\ndef height(hours):\n    return 2.1 * cos(hours / 12.4)\n```\n\n"
)
TEXT = (_PARAGRAPH * 20)[:LENGTH]
QUESTION = "What is a tide?"


async def pieces() -> AsyncGenerator[str, None]:
    """Give the pieces at their times, whatever whoever takes them does between."""
    began = time.monotonic()
    for number in range(LENGTH // PIECE):
        await asyncio.sleep(max(0.0, began + PAUSE * (number + 1) - time.monotonic()))
        yield TEXT[PIECE * number : PIECE * (number + 1)]


class Dripping(ScriptedEngine):
    """An engine that writes the answer, to every question."""

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer; see `Engine.stream`."""
        count = LENGTH // PIECE
        async for piece in pieces():
            yield Delta(piece)
        yield Delta("", "stop", Usage(len(prompt.ids), 0, count, 0.0, PAUSE, IDEAL_SECONDS))


def open_dripping(name: str, options: LoadOptions | None = None) -> Dripping:
    """Open it instead of any other engine; see `open_engine`."""
    return Dripping(name=name)
