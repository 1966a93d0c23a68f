"""Code is run apart from everything else: what it cannot do, and what is still scored."""

import os
import socket
import time
from pathlib import Path

import psutil
import pytest

from chatkit.scorers import scorer_of
from chatkit.scorers.program import run_alone

pytestmark = pytest.mark.lengthy

QUESTION = 'def double(x):\n    """Give twice the number."""\n'
TESTS = "assert double(4) == 8"


def alone(program: str, seconds: float = 2.0) -> str:
    return run_alone(program, seconds=seconds, megabytes=256)


@pytest.mark.parametrize(
    "answer",
    [
        "```python\ndef double(x):\n    return 2 * x\n```",
        "def double(x):\n    return 2 * x",
        "    return 2 * x",
        "Here it is:\n```py\ndef double(x):\n    return x + x\n```\nTry `double(2)`.",
    ],
    ids=["block", "bare", "body", "with words"],
)
def test_an_answer_that_passes_its_tests_scores_1(answer: str) -> None:
    assert scorer_of({"kind": "code"})(QUESTION, answer, TESTS).value == 1.0


def test_an_answer_that_fails_is_told_why() -> None:
    score = scorer_of({"kind": "code"})(QUESTION, "def double(x):\n    return x", TESTS)
    assert score.value == 0.0 and "AssertionError" in score.explanation


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_what_never_ends_is_ended(program: str) -> None:
    assert "took longer" in alone(program, seconds=1.0)


def running_since(began: float) -> list[int]:
    """The programs begun since then that still run; one that ended and waits for its parent to
    ask how is not running."""
    return [
        each.pid
        for each in psutil.process_iter(["cmdline", "create_time", "status"])
        if each.info["create_time"] >= began
        and each.info["status"] != psutil.STATUS_ZOMBIE
        and "program.py" in (each.info["cmdline"] or [])
    ]


def test_a_fork_bomb_is_ended_with_all_of_it() -> None:
    began = time.time()
    alone("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", seconds=1.0)
    assert running_since(began) == []


def test_what_leaves_its_session_is_ended_too() -> None:
    program = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n"
    began = time.time()
    assert alone(program) == ""
    assert running_since(began) == []


def test_memory_has_a_limit() -> None:
    assert "MemoryError" in alone("x = [0] * 10**10")


def test_files_have_a_limit_and_only_its_own_folder_takes_them(tmp_path: Path) -> None:
    assert alone("open('mine', 'w').write('x')") == ""
    assert "OSError" in alone("open('mine', 'w').write('x' * 10**8)")
    tmp_path.chmod(0o777)
    other = tmp_path / "other"
    assert "Permission" in alone(f"open({str(other)!r}, 'w').write('x')")
    assert not other.exists()


def test_it_has_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert alone(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)")


def test_it_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hidden")
    assert alone("import os\nassert 'SECRET_KEY' not in os.environ") == ""
    if os.geteuid() == 0:
        assert alone("import os\nassert os.getuid() != 0") == ""
