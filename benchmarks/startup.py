"""How long it takes until something happens: first token of the command, help, import."""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.measuring import MODEL, repeated


def run() -> Iterator[str]:
    """Print seconds from process start."""
    ask = ["-m", "chatkit", "chat", MODEL, "--once", "What is a tide?", "--temperature", "0"]
    first = repeated(lambda: _first_byte(ask), 5)
    yield f"chat --once, to the first token: {first:.2f} s (target 3)"
    for label, arguments in {
        "import chatkit": ["-c", "import chatkit"],
        "--help": ["-m", "chatkit", "--help"],
        "chat --help": ["-m", "chatkit", "chat", "--help"],
        "an empty Python": ["-c", "pass"],
    }.items():
        seconds = repeated(lambda arguments=arguments: _whole(arguments), 5)  # type: ignore[misc]
        yield f"{label}: {seconds:.2f} s" + ("" if "empty" in label else " (target 0.5)")


def _first_byte(arguments: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        seconds = time.perf_counter() - began
        process.stdout.read()
    return seconds


def _whole(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began
