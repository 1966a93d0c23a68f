"""`python -m chatkit conversations export` and `import`: out of the store and into it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, get_args

import typer

from chatkit.cli.opening import LOCAL_USER, opened_shelf
from chatkit.cli.printing import count, print_table
from chatkit.errors import InputError, NotFound

if TYPE_CHECKING:
    from chatkit.exchange.portable import Portable
    from chatkit.shelf import Shelf

Format = Literal["json", "markdown", "messages"]


def export(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Which ones; all without a name.", metavar="[ID…]")
    ] = None,
    user: Annotated[str, typer.Option(help="Whose conversations.")] = LOCAL_USER,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="json holds everything, markdown is for people, messages for training.",
            metavar="json|markdown|messages",
        ),
    ] = "json",
    output: Annotated[Path | None, typer.Option(help="The file; else it is printed.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write conversations to a file, or print them. What is exported is not encrypted.

    Examples:

      python -m chatkit conversations export --output mine.json

      python -m chatkit conversations export 4d1f… --format markdown

      python -m chatkit conversations export --format messages > training.jsonl
    """
    from chatkit.background import wait_for

    if form not in get_args(Format):
        raise InputError(f"There is no format {form!r}; use {', '.join(get_args(Format))}.")
    with opened_shelf() as shelf:
        for id in ids or ():
            wait_for(shelf.conversation(user, id))
        with _opened(output, force) as file:
            number, left_out = _write(form, _portables(shelf, user, ids), file)
    if output is not None:
        typer.echo(f"Wrote {count(number - len(left_out), 'conversation')} to {output}.", err=True)
    if left_out:
        typer.echo(f"Left out, since no answer is finished: {', '.join(left_out)}", err=True)


def import_file(
    file: Annotated[Path, typer.Argument(help="A file, a zip or a folder.")],
    user: Annotated[str, typer.Option(help="Whose conversations they become.")] = LOCAL_USER,
) -> None:
    """Store the conversations of a file: chatkit's, ChatGPT's or ShareGPT's, all or none.

    The kind is seen from what is in it. They become new conversations, also when they were
    imported before. What other programs' files hold beside the texts is left out, such as
    pictures; docs/exchange.md lists it.

    Examples:

      python -m chatkit conversations import mine.json

      python -m chatkit conversations import chatgpt-export.zip
    """
    from chatkit.background import wait_for
    from chatkit.exchange.reading import read_conversations

    try:
        found = read_conversations(file)
    except OSError as error:
        raise InputError(
            f"The file {file} cannot be read ({error.strerror}); name another one."
        ) from None
    with opened_shelf() as shelf:
        ids = wait_for(shelf.import_conversations(user, found))
    rows = [
        (id, f"{len(one.nodes):,}", one.title or "-") for id, one in zip(ids, found, strict=True)
    ]
    if rows:
        print_table(("id", "messages", "title"), rows)
    typer.echo(f"Imported {count(len(ids), 'conversation')}.", err=True)


def _portables(shelf: "Shelf", user: str, ids: list[str] | None) -> "Iterator[Portable]":
    """Read one conversation at a time, so that memory holds no more."""
    from chatkit.background import wait_for

    for id in ids or wait_for(shelf.store.conversations.ids(user)):
        try:
            yield wait_for(shelf.export(user, [id]))[0]
        except NotFound:
            # When all are wanted, one that is deleted meanwhile is none of them.
            if ids:
                raise


def _write(form: str, found: "Iterable[Portable]", file: TextIO) -> tuple[int, tuple[str, ...]]:
    """Write conversations; give how many were read, and which of them were left out."""
    from chatkit.exchange.markdown import write_markdown
    from chatkit.exchange.own import write_json
    from chatkit.exchange.training import write_messages_jsonl

    counted = _Counted(found)
    left_out: tuple[str, ...] = ()
    if form == "json":
        write_json(counted, file)
    elif form == "messages":
        left_out = write_messages_jsonl(counted, file)
    else:
        for conversation in counted:
            if counted.number > 1:
                file.write("\n")
            write_markdown(conversation, file)
    return counted.number, left_out


class _Counted:
    """Counts what is taken."""

    def __init__(self, found: "Iterable[Portable]") -> None:
        self._found = found
        self.number = 0

    def __iter__(self) -> "Iterator[Portable]":
        for one in self._found:
            self.number += 1
            yield one


@contextmanager
def _opened(output: Path | None, force: bool) -> Iterator[TextIO]:
    from io import TextIOWrapper

    from chatkit.store.whole_file import whole_file

    if output is None:
        yield typer.get_text_stream("stdout", encoding="utf-8", errors="strict")
        return
    with whole_file(output, replace=force) as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()
