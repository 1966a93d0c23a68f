"""A scripted engine that is slow when a question says so."""

from collections.abc import AsyncGenerator

from chatkit.engine import Delta
from chatkit.engines.opening import LoadOptions
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling


class PacedEngine(ScriptedEngine):
    """Answers with the question: at once, or `slowly`, 100 letters a second, or half as `very`."""

    def stream(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer; see `ScriptedEngine.stream`."""
        question = prompt.messages[-1].content
        if "slowly" in question:
            seconds = 0.02 if "very slowly" in question else 0.01
            slow = ScriptedEngine(Script(token_seconds=seconds), self.name)
            return slow.stream(prompt, sampling, adapter)
        return super().stream(prompt, sampling, adapter)


def open_paced(name: str, options: LoadOptions | None = None) -> PacedEngine:
    """Open it instead of any other engine; see `open_engine`."""
    return PacedEngine(name=name)
