"""Scores code by running its tests, away from everything else.

It runs in a process of its own with limits on time, memory, processes and files. On Linux it can
write into its own empty folder only (Landlock) and has no network (a namespace of its own), and
where we are root it runs as a user of its own. That keeps accidents in, and most malice; for code
of strangers at large take a virtual machine.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from chatkit.errors import InputError
from chatkit.scorers.comparing import needed
from chatkit.scorers.confining import confine
from chatkit.scorers.score import Score, Scorer

_BLOCK = re.compile(r"```(?:python|py)?\s*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_NOBODY, _STRANGERS = 65_534, 1_000_000_000
_OUTPUT = 64 * 1024
_LAST_SECONDS = 5.0


def code(*, seconds: float = 5.0, megabytes: int = 512) -> Scorer:
    """Score 1 when an answer's Python passes the tests that its reference is.

    An answer may be a block of code or a whole program. A function that the question begins is
    taken from there when the answer only goes on with it (HumanEval, Chen 2021).

    Args:
        seconds: of computing time, and twice that on the clock.
        megabytes: of memory.

    Raises:
        InputError: a limit is not positive.
    """
    if seconds <= 0 or megabytes <= 0:
        raise InputError("The scorer code needs seconds and megabytes above 0; correct them.")

    def score(question: str, answer: str, reference: str | None) -> Score:
        program = f"{_program(question, answer)}\n\n{needed(reference, 'code')}\n"
        problem = run_alone(program, seconds=seconds, megabytes=megabytes)
        return Score(0.0, problem) if problem else Score(1.0)

    return score


def run_alone(program: str, *, seconds: float, megabytes: int) -> str:
    """Run Python text with limits; tell what went wrong, nothing when it ended well.

    Args:
        program: the text.
        seconds: of computing time, and twice that on the clock.
        megabytes: of memory.
    """
    with tempfile.TemporaryDirectory(prefix="chatkit-code-") as place:
        folder = Path(place)
        (folder / "program.py").write_text(program, "utf-8", errors="replace")
        owner = _give_away(folder) if sys.platform == "linux" and os.geteuid() == 0 else None
        # Not a pipe: what it starts and leaves behind would hold that open.
        with (folder / "said").open("w+b") as said:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "program.py"],
                cwd=folder,
                env={"PATH": os.defpath, "HOME": place},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=lambda: confine(folder, owner, seconds, megabytes),
            )
            try:
                code = process.wait(2 * seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end_all(process, place)
            said.seek(0, os.SEEK_END)
            said.seek(max(0, said.tell() - _OUTPUT))
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
    if code == 0:
        return ""
    if code is None or code == -signal.SIGXCPU or code == -signal.SIGKILL:
        return f"took longer than {seconds:g} s, or more than it may"
    return lines[-1][:300] if lines else f"ended with {code}"


def _give_away(folder: Path) -> int:
    """Give a folder to a user of its own, so that one program's processes count for no other."""
    stranger = _STRANGERS + secrets.randbelow(_STRANGERS)
    try:
        os.chown(folder, stranger, stranger)
    except OSError:
        # A container may know few users; it knows nobody.
        stranger = _NOBODY
        os.chown(folder, stranger, stranger)
    return stranger


def _program(question: str, answer: str) -> str:
    blocks = _BLOCK.findall(answer)
    # The longest block is the function; others show how to call it.
    written = max(blocks, key=len) if blocks else answer
    asked = _BLOCK.findall(question)
    begun = asked[-1] if asked else question
    defined = re.findall(r"^def (\w+)", begun, re.MULTILINE)
    if defined and f"def {defined[-1]}" not in written:
        return f"{begun.rstrip()}\n{written}"
    imports = [line for line in begun.splitlines() if re.match(r"(?:from|import) ", line)]
    # The question's own helpers count, and the answer's come over them.
    helpers = begun if len(defined) > 1 else ""
    return "\n".join([*imports, helpers, written])


def _end_all(process: "subprocess.Popen[bytes]", home: str) -> None:
    """End the process and whatever it started, also what left its session."""
    process.kill()
    process.wait()
    # All are stopped first: what is ended makes room, into which the others would multiply.
    stopped: set[psutil.Process] = set()
    while found := set(_at_home(home)) - stopped:
        for other in found:
            with suppress(psutil.Error):
                other.suspend()
        stopped |= found
    for other in stopped:
        with suppress(psutil.Error):
            other.kill()
    # On a busy machine what was killed may run for a moment more.
    until = time.monotonic() + _LAST_SECONDS
    while any(map(_runs, stopped)) and time.monotonic() < until:
        time.sleep(0.01)


def _runs(process: psutil.Process) -> bool:
    # What ended stays visible until its parent asks how, and that may be never.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _at_home(home: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("HOME") == home:
                yield process
