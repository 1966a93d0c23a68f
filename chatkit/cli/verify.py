"""`python -m chatkit conversations verify`: whether everything stored is whole."""

from typing import Annotated

import typer

from chatkit.cli.opening import opened_shelf
from chatkit.cli.printing import one_line, print_json, print_table


def verify(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the whole database: keys open what they sealed, messages hang together, the log holds.

    It looks at the conversations of all users, and may run beside a service. The exit code is 1
    when something is broken.

    Examples:

      python -m chatkit conversations verify

      python -m chatkit conversations verify --json
    """
    from chatkit.background import wait_for
    from chatkit.store.verify import verify as look

    with opened_shelf() as shelf:
        found = wait_for(look(shelf.store))
    counts = {**found.counts, "audit": found.audit.entries}
    if json:
        print_json({"counts": counts, "faults": found.faults, "broken": found.broken})
    else:
        print_table(("table", "rows"), [(name, f"{rows:,}") for name, rows in counts.items()])
        for sentence in found.broken:
            typer.echo(f"broken: {one_line(sentence)}")
        if found.faults > len(found.broken):
            typer.echo(f"and {found.faults - len(found.broken):,} more")
        typer.echo("Everything is whole." if not found.faults else f"{found.faults:,} broken.")
    if found.faults:
        raise typer.Exit(1)
