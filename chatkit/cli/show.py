"""`python -m chatkit conversations show`: one conversation, as it stands or with all branches."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from chatkit.cli.opening import LOCAL_USER, opened_shelf
from chatkit.cli.printing import count, iso, moment, one_line, print_json, safe

if TYPE_CHECKING:
    from chatkit.ledger import Ledger
    from chatkit.shelf import Shelf
    from chatkit.store.records import ConversationRecord, NodeRecord

_AT_ONCE = 500


class _Place(NamedTuple):
    """A message and where it stands: as which of how many, and whether the reader sees it."""

    node: "NodeRecord"
    number: int
    siblings: int
    on_path: bool
    ledger: "Ledger | None" = None


def show(
    id: Annotated[str, typer.Argument(help="Its name; `conversations list` tells it.")],
    user: Annotated[str, typer.Option(help="Whose conversation.")] = LOCAL_USER,
    everything: Annotated[
        bool, typer.Option("--all", help="Show the whole tree, not only the current branch.")
    ] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Show what the model was not given, and why.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a conversation from its first message to where its reader stands.

    Examples:

      python -m chatkit conversations show 4d1f…

      python -m chatkit conversations show 4d1f… --all --ledger
    """
    from chatkit.background import wait_for

    with opened_shelf() as shelf:
        record = wait_for(shelf.conversation(user, id))
        places = wait_for(_tree(shelf, record) if everything else _path(shelf, record))
        if ledger:
            places = wait_for(_with_ledgers(shelf, record, places))
    if json:
        print_json(_as_json(record, places))
    else:
        _print(record, places, ledger)


def record_json(record: "ConversationRecord") -> dict[str, Any]:
    """Give a conversation without its messages as JSON values."""
    from_id, from_node = record.forked_from or (None, None)
    return {
        "id": record.id,
        "title": record.title,
        "created": iso(record.created),
        "updated": iso(record.updated),
        "system": record.settings.system,
        "policy": record.settings.policy,
        "head": record.head,
        "forked_from": from_id,
        "forked_at": from_node,
    }


async def _path(shelf: "Shelf", record: "ConversationRecord") -> list[_Place]:
    found: list[_Place] = []
    head = record.head
    while head is not None:
        page = await shelf.page(record.user, record.id, head=head, limit=_AT_ONCE)
        found[:0] = [
            _Place(one.node, one.siblings.index(one.node.id) + 1, len(one.siblings), True)
            for one in page.messages
        ]
        head = page.messages[0].node.parent
    return found


async def _tree(shelf: "Shelf", record: "ConversationRecord") -> list[_Place]:
    """Give every message and summary: the path first, then the other branches."""
    tree = await shelf.store.nodes.tree(record.user, record.id)
    path = {place.node.id for place in await _path(shelf, record)}
    siblings: dict[str | None, list[str]] = {}
    for node in tree:
        if node.kind == "message":
            siblings.setdefault(node.parent, []).append(node.id)
    places = [_place(node, siblings.get(node.parent, []), node.id in path) for node in tree]
    return sorted(places, key=lambda place: not place.on_path)


def _place(node: "NodeRecord", siblings: list[str], on_path: bool) -> _Place:
    if node.kind != "message":
        return _Place(node, 1, 1, on_path)
    return _Place(node, siblings.index(node.id) + 1, len(siblings), on_path)


async def _with_ledgers(
    shelf: "Shelf", record: "ConversationRecord", places: Sequence[_Place]
) -> list[_Place]:
    return [
        place._replace(ledger=await shelf.ledger(record.user, record.id, place.node.id))
        if place.node.facts
        else place
        for place in places
    ]


def _print(record: "ConversationRecord", places: Sequence[_Place], ledger: bool) -> None:
    typer.echo(one_line(record.title) or "Untitled")
    typer.echo(f"{record.id}  {moment(record.created)} to {moment(record.updated)}")
    if record.settings.system:
        typer.echo(f"\nsystem\n{safe(record.settings.system)}")
    for on_path, group in groupby(places, lambda place: place.on_path):
        if not on_path:
            typer.echo("\nOther branches")
        for place in group:
            typer.echo(f"\n{_heading(place)}\n{safe(place.node.message.content)}")
            if ledger and place.ledger:
                typer.echo("\n".join(f"  | {line}" for line in _ledger_lines(place.ledger)))


def _heading(place: _Place) -> str:
    node = place.node
    parts = [node.message.role if node.kind == "message" else "summary", node.id]
    if not place.on_path:
        parts.append(f"after {node.parent}" if node.parent else "at the beginning")
    if node.facts:
        parts += [node.facts.model, node.facts.status]
    if place.siblings > 1:
        parts.append(f"branch {place.number}/{place.siblings}")
    if node.pinned:
        parts.append("pinned")
    if node.facts and node.facts.error:
        parts.append(node.facts.error[1])
    return one_line("  ".join(parts).replace("  ", " · "))


def _ledger_lines(ledger: "Ledger") -> list[str]:
    """Tell what the model was given, and what it was not."""
    sent = f"{ledger.prompt_tokens:,} of {ledger.window:,} tokens sent"
    found = [f"{sent}, {ledger.answer:,} kept for the answer"]
    rest = [line for line in ledger.lines if line.fate != "sent"]
    for (fate, why), lines in groupby(rest, lambda line: (line.fate, line.why)):
        gone = list(lines)
        found.append(f"{fate}: {count(len(gone), 'message')}; {one_line(why)}")
    tokens = [token for line in ledger.lines for token in line.neutralised]
    if tokens:
        found.append(f"as plain text: {one_line(' '.join(tokens))}")
    return found


def _as_json(record: "ConversationRecord", places: Sequence[_Place]) -> dict[str, Any]:
    return {**record_json(record), "messages": [_place_json(place) for place in places]}


def _place_json(place: _Place) -> dict[str, Any]:
    node = place.node
    value: dict[str, Any] = {
        "id": node.id,
        "parent": node.parent,
        "kind": node.kind,
        "role": node.message.role,
        "content": node.message.content,
        "created": iso(node.created),
        "pinned": node.pinned,
        "branch": place.number,
        "branches": place.siblings,
        "on_path": place.on_path,
    }
    if node.facts:
        value |= {"model": node.facts.model, "status": node.facts.status}
        value |= {"error": node.facts.error[1]} if node.facts.error else {}
    return value | ({"ledger": place.ledger.to_json()} if place.ledger else {})
