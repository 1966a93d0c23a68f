"""`python -m chatkit conversations`: what is stored, and what becomes of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatkit.cli.opening import LOCAL_USER, opened_shelf
from chatkit.cli.printing import confirm, count, iso, moment, one_line, print_json, print_table
from chatkit.cli.show import record_json, show
from chatkit.cli.travel import export, import_file
from chatkit.cli.verify import verify
from chatkit.errors import InputError

if TYPE_CHECKING:
    from chatkit.shelf import Shelf
    from chatkit.store.search import Hit

User = Annotated[str, typer.Option(help="Whose conversations.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

conversations = typer.Typer(
    help="List, show, search, export, import, delete and verify stored conversations.",
    no_args_is_help=True,
)


@conversations.command("list")
def list_them(
    user: User = LOCAL_USER,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List conversations, newest first.

    Examples:

      python -m chatkit conversations list

      python -m chatkit conversations list --limit 5 --json
    """
    from chatkit.background import wait_for

    with opened_shelf() as shelf:
        found = wait_for(shelf.conversations(user, limit + 1))
    if json:
        print_json([record_json(record) for record in found[:limit]])
    elif not found:
        typer.echo(f"There are no conversations of {user!r} yet.", err=True)
    else:
        rows = [(one.id, moment(one.updated), one.title or "-") for one in found[:limit]]
        print_table(("id", "updated", "title"), rows)
        if len(found) > limit:
            typer.echo("There are more; see --limit.", err=True)


@conversations.command()
def search(
    words: Annotated[list[str], typer.Argument(help="What to look for.")],
    user: User = LOCAL_USER,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    json: AsJson = False,
) -> None:
    """Find messages that hold all of the words, the best first.

    A word also finds longer ones that begin with it. Capital letters do not count.

    Examples:

      python -m chatkit conversations search tide moon

      python -m chatkit conversations search tide --json
    """
    from chatkit.background import wait_for

    with opened_shelf() as shelf:
        hits = wait_for(shelf.search(user, " ".join(words), limit))
    if json:
        print_json([_hit_json(hit) for hit in hits])
    elif not hits:
        typer.echo("Nothing was found.", err=True)
    else:
        for hit in hits:
            typer.echo(f"{hit.conversation}  {moment(hit.created)}  {hit.role}")
            typer.echo(f"    {one_line(hit.snippet)}")


@conversations.command()
def delete(
    ids: Annotated[list[str] | None, typer.Argument(help="Which ones.", metavar="ID…")] = None,
    user: User = LOCAL_USER,
    everything: Annotated[
        bool, typer.Option("--everything", help="Delete the user with all that is theirs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete conversations for good: texts, keys, search entries and live logs.

    No backup brings them back. Exports that were written to files stay.

    Examples:

      python -m chatkit conversations delete 4d1f…

      python -m chatkit conversations delete --everything --yes
    """
    if bool(ids) == everything:
        raise InputError("Say what to delete: either names of conversations, or --everything.")
    with opened_shelf(both_rooms=everything) as shelf:
        if everything:
            _delete_user(shelf, user, yes)
        else:
            _delete(shelf, user, list(dict.fromkeys(ids or ())), yes)


conversations.command()(show)
conversations.command()(export)
conversations.command("import")(import_file)
conversations.command()(verify)


def _hit_json(hit: "Hit") -> dict[str, Any]:
    return {**hit._asdict(), "created": iso(hit.created)}


def _delete(shelf: "Shelf", user: str, ids: list[str], yes: bool) -> None:
    from chatkit.background import wait_for

    # All are looked for first, so that a wrong name deletes nothing.
    found = [wait_for(shelf.conversation(user, id)) for id in ids]
    titles = ", ".join(f"'{one_line(record.title) or record.id}'" for record in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    confirm(f"Delete {titles}{more} for good?", yes)
    for record in found:
        wait_for(shelf.delete(user, record.id))
    typer.echo(f"Deleted {count(len(found), 'conversation')}.")


def _delete_user(shelf: "Shelf", user: str, yes: bool) -> None:
    from chatkit.background import wait_for

    number = len(wait_for(shelf.store.conversations.ids(user)))
    kept = count(number, "conversation")
    confirm(f"Delete {user!r} with {kept}, feedback and preferences for good?", yes)
    wait_for(shelf.delete_user(user))
    typer.echo(f"Deleted {user!r} with {kept}.")
