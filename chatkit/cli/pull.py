"""`python -m chatkit pull`: bring a model onto this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from chatkit.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from chatkit.catalogue import EngineName
    from chatkit.loading.folder import ModelFolder
    from chatkit.loading.progress import Progress

_STEP_PERCENT = 10
_STEP_BYTES = 100_000_000


def pull(
    name: Annotated[
        str, typer.Argument(help="A catalogue name (perhaps name@engine), or org/name.")
    ],
    engine: Annotated[
        str | None,
        typer.Option(help="llamacpp or transformers; the model's default engine if not given."),
    ] = None,
) -> None:
    """Bring a model's files onto this machine, verified; goes on where it was interrupted.

    Example: python -m chatkit pull smollm2-135m
    """
    from chatkit.loading.progress import size_text

    with progress_for_terminal() as progress:
        folder = _pull(name, engine, progress)
    manifest = folder.manifest
    size = sum(manifest.files.values()) if manifest else 0
    typer.echo(f"{name} is in {folder.path} ({size_text(size)}).")
    typer.echo(f"Talk to it: python -m chatkit chat {name}")


@contextmanager
def progress_for_terminal() -> Iterator["Progress"]:
    """Show progress on stderr: bars on a terminal, a line now and then in a pipe or a log."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(console)
        return
    with _bars(console) as bars:
        yield TerminalBars(bars)


class TerminalBars:
    """One bar per file, and sentences above the bars."""

    def __init__(self, bars: "Bars") -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def say(self, sentence: str) -> None:
        """Print the sentence above the bars."""
        self._bars.console.print(sentence, markup=False, highlight=False)

    def advance(self, file: str, done: int, total: int | None) -> None:
        """Move the file's bar, which pulses while the total is unknown."""
        if file not in self._tasks:
            self._tasks[file] = self._bars.add_task(file, total=total)
        self._bars.update(self._tasks[file], completed=done, total=total)


class Lines:
    """A line for each tenth of a file, or each 100 MB where its size is unknown."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._steps: dict[str, int] = {}

    def say(self, sentence: str) -> None:
        """Print the sentence."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def advance(self, file: str, done: int, total: int | None) -> None:
        """Print a line when the file has come a step further."""
        from chatkit.loading.progress import size_text

        step = done * 100 // (total * _STEP_PERCENT) if total else done // _STEP_BYTES
        if step > self._steps.get(file, 0):
            self._steps[file] = step
            self.say(f"{file}: {size_text(done)}" + (f" of {size_text(total)}" if total else ""))


def _pull(name: str, engine: str | None, progress: "Progress") -> "ModelFolder":
    from chatkit.catalogue import find
    from chatkit.loading.pull import pull, pull_reference

    model, _, named_engine = name.partition("@")
    wanted = _engine(named_engine or None, engine)
    if "/" not in model:
        return pull(find(model), engine=wanted, progress=progress)
    if wanted not in (None, "transformers"):
        raise InputError(
            f"{model} is a checkpoint, which runs on transformers; leave --engine out."
        )
    return pull_reference(model, progress=progress)


def _engine(named: str | None, option: str | None) -> "EngineName | None":
    if named and option and named != option:
        raise InputError(f"The name says {named} and --engine says {option}; give one of them.")
    match named or option:
        case None:
            return None
        case "llamacpp":
            return "llamacpp"
        case "transformers":
            return "transformers"
        case other:
            raise InputError(f"No engine is called {other!r}; use llamacpp or transformers.")


def _bars(console: "Console") -> "Bars":
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
