"""`python -m chatkit chat`: once, in a pipe, and in a real terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.cli.terminal import split_blocks

pytestmark = pytest.mark.lengthy

COMMAND = [sys.executable, "-m", "chatkit", "chat"]


def run(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, check=False)


def test_once_prints_one_answer() -> None:
    result = run("scripted:", "--once", "hello")
    assert (result.returncode, result.stdout) == (0, b"You said: hello\n")


def test_in_a_pipe_each_line_is_a_message() -> None:
    result = run("scripted:", stdin="hello\n\nžluť\n".encode())
    assert result.stdout.decode() == "You said: hello\nYou said: žluť\n"


def test_max_tokens_cuts_the_answer() -> None:
    assert run("scripted:", "--once", "hello", "--max-tokens", "3").stdout == b"You\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "sentence"),
    [
        (("smolm2-135m", "--once", "x"), b"", 1, "did you mean smollm2-135m"),
        (("smollm2-135m", "--once", "x"), b"", 1, "python -m chatkit pull smollm2-135m"),
        (("smollm2-135m@tgi", "--once", "x"), b"", 2, "use llamacpp or transformers"),
        (("scripted:", "--once", " "), b"", 2, "empty"),
        (("scripted:", "--once", "x" * 5000), b"", 2, "shorten the question"),
        (("scripted:", "--once", "x", "--temperature", "-1"), b"", 2, "temperature"),
        (("scripted:", "--once", "x", "--quantize", "int3"), b"", 2, "int8 or int4"),
        (("scripted:",), b"ok\n\xff\xfe\n", 2, "Line 2 of the input is not UTF-8"),
        (("./nowhere", "--once", "x"), b"", 1, "no file or folder"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_one_sentence(
    arguments: tuple[str, ...], stdin: bytes, code: int, sentence: str
) -> None:
    result = run(*arguments, stdin=stdin)
    error = result.stderr.decode()
    assert result.returncode == code
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_reader_that_leaves_is_no_stack_trace() -> None:
    command = " ".join([*COMMAND, "scripted:", "--once", "hello"])
    result = subprocess.run(
        f"{command} | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in result.stderr


class Terminal:
    """A chat in a pseudo-terminal, typed at and read from like a person would."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = self._unread = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 60) -> None:
        """Read until the text has come, and no further."""
        end = time.monotonic() + seconds
        while text not in self._unread:
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; what came was {self._unread[-500:]!r}"
            self._unread += os.read(self._master, 65536).decode(errors="replace")
        before, _, self._unread = self._unread.partition(text)
        self.seen += before + text

    def press(self, key: str, text: str) -> None:
        """Press a key until the text comes: before the line editor listens, a key is lost."""
        for _ in range(30):
            self.type(key)
            ready, _, _ = select.select([self._master], [], [], 1)
            if ready:
                self.expect(text)
                return
        raise AssertionError(f"{text!r} did not come")


@pytest.fixture
def terminal() -> "object":
    opened = Terminal("scripted:")
    opened.expect("> ")
    yield opened
    if opened.process.poll() is None:
        opened.process.send_signal(signal.SIGKILL)
        opened.process.wait()


def test_the_commands_of_the_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("hello\n")
    terminal.expect("the conversation has")
    assert "You said: hello" in terminal.seen
    for typed, answer in [
        ("/retry\n", "the conversation has"),
        ("/edit goodbye\n", "You said: goodbye"),
        ("/system Be brief.\n", "system: Be brief."),
        ("/nonsense\n", "There is no command /nonsense"),
        ("/help\n", "/quit"),
        (f"/save {tmp_path}/chat.json\n", "Saved to"),
        (f"/save {tmp_path}/no/such/chat.json\n", "error: "),
    ]:
        terminal.type(typed)
        terminal.expect(answer)
    terminal.type("/quit\n")
    assert terminal.process.wait(timeout=30) == 0
    assert "goodbye" in (tmp_path / "chat.json").read_text("utf-8")


def test_ctrl_c_at_the_prompt_does_not_leave(terminal: Terminal) -> None:
    terminal.press("\x03", "Ctrl-D leaves")
    terminal.type("hello\n")
    terminal.expect("the conversation has")
    terminal.expect("> ")
    terminal.type("/quit\n")
    assert terminal.process.wait(timeout=30) == 0


@pytest.mark.model
def test_ctrl_c_stops_the_answer_and_not_the_program(model_home: Path) -> None:
    terminal = Terminal("smollm2-135m", "--temperature", "0")
    terminal.expect("> ")
    terminal.type("Write a very long story about the sea and its ships.\n")
    terminal.expect("its ships.")
    for _ in range(3):
        terminal.expect("\x1b[2K")  # the growing answer is drawn again
    terminal.type("\x03")
    terminal.expect("stopped")
    terminal.type("What is the capital of France?\n")
    terminal.expect("Paris")
    terminal.type("/quit\n")
    assert terminal.process.wait(timeout=60) == 0


@pytest.mark.model
def test_the_real_model_answers_once(model_home: Path) -> None:
    result = run("smollm2-135m", "--once", "What is the capital of France?", "--temperature", "0")
    assert b"Paris" in result.stdout and result.stderr == b""


@given(st.text(alphabet="ab\n `#-", max_size=60))
def test_blocks_lose_nothing(text: str) -> None:
    finished, rest = split_blocks(text)
    assert finished + rest == text


def test_a_code_fence_is_one_block() -> None:
    text = "one\n\n```\na\n\nb\n"
    assert split_blocks(text) == ("one\n\n", "```\na\n\nb\n")
    assert split_blocks(text + "```\n\n") == (text + "```\n\n", "")
