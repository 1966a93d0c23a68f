"""Runs the wire server on a script: `python -m benchmarks.scripted_server 0.02 200 4000`."""

import sys

from chatkit.engines.scripted import Script, ScriptedEngine
from serve.wire.options import WireOptions
from serve.wire.running import run
from serve.wire.service import WireService

WORDS = "All work and no play makes a long answer. " * 100


def main(token_seconds: float, slots: int, letters: int) -> None:
    """Serve until the process is ended.

    Args:
        token_seconds: the pause between two tokens.
        slots: how many requests run at once.
        letters: how long an answer is; each letter is a token.
    """
    script = Script(
        answer=lambda _: WORDS[:letters], token_seconds=token_seconds, slots=slots, context=16_384
    )
    options = WireOptions("scripted:", 8_000, 16_000, max_concurrent_requests=slots)
    run(WireService(ScriptedEngine(script), options), "127.0.0.1", 0)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
