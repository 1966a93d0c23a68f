"""An engine that writes the time into its answer, so that whoever reads it knows how old it is."""

import asyncio
import time
from collections.abc import AsyncGenerator

from chatkit.engine import Delta, Usage
from chatkit.engines.opening import LoadOptions
from chatkit.engines.scripted import ScriptedEngine
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling

# As fast as people read, and a bit more: 15 tokens a second for each of them.
PAUSE, PIECES = 1 / 15, 300
WORDS_IN_LINE = 24


class Stamped(ScriptedEngine):
    """Writes a word and the time, again and again, for twenty seconds."""

    async def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer; see `Engine.stream`."""
        began = time.monotonic()
        for number in range(1, PIECES + 1):
            await asyncio.sleep(max(0.0, began + PAUSE * number - time.monotonic()))
            end = "\n\n" if number % WORDS_IN_LINE == 0 else " "
            yield Delta(f"at{time.monotonic_ns()}{end}")
        yield Delta("", "stop", Usage(len(prompt.ids), 0, PIECES, 0.0, PAUSE, PIECES * PAUSE))


def open_stamped(name: str, options: LoadOptions | None = None) -> Stamped:
    """Open it instead of any other engine; see `open_engine`."""
    return Stamped(name=name)
