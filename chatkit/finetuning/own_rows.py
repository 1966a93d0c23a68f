"""Rows from our own store: what people liked, disliked, edited and asked for again."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace

from chatkit.errors import InputError
from chatkit.finetuning.formats import in_order
from chatkit.finetuning.rows import Example, Kind, Origin, Pair, Row, Thumb
from chatkit.messages import Message, assistant, system
from chatkit.store.opening import Store
from chatkit.store.opinions import CONSENT
from chatkit.store.records import Feedback, NodeRecord, VoteRecord

OWN = "conversations:"


async def own_rows(
    store: Store, kind: Kind, user: str | None = None, *, consent: bool = False
) -> AsyncIterator[Row]:
    """Give the rows of one kind that the store has, conversation by conversation.

    Liked answers are examples. Pairs are an answer liked and its sibling disliked, a person's own
    version and the answer that it replaces, the answer that was kept and the siblings that were
    asked for again, and what a vote prefers. Thumbs are what they are.

    Args:
        store: our own.
        kind: example, pair or thumb.
        user: whose conversations; None for all that are allowed.
        consent: all users agreed; else only those whose preference `training` is true.
    """
    number = 0
    for one in (user,) if user is not None else await _everybody(store):
        if not consent and (await store.opinions.preferences(one)).get(CONSENT) is not True:
            continue
        for id in await store.conversations.ids(one):
            async for row in _of_conversation(store, kind, one, id):
                number += 1
                yield _numbered(row, number)
        if kind == "pair":
            for id, vote in (await store.votes.of(one)).items():
                if pair := _of_vote(vote, Origin(OWN, 0, one, id)):
                    number += 1
                    yield _numbered(pair, number)


async def _everybody(store: Store) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*await store.conversations.users(), *await store.votes.users())))


def _of_vote(vote: VoteRecord, origin: Origin) -> Pair | None:
    if vote.won == 0.5 or vote.first_answer == vote.second_answer:
        return None
    sides = [(vote.first, vote.first_answer), (vote.second, vote.second_answer)]
    (best, chosen), (worst, rejected) = sides if vote.won else sides[::-1]
    made = origin._replace(made_by=(best, worst))
    return Pair(in_order(list(vote.prompt)), assistant(chosen), assistant(rejected), made)


async def _of_conversation(store: Store, kind: Kind, user: str, id: str) -> AsyncIterator[Row]:
    record = await store.conversations.find(user, id)
    tree = [n for n in await store.nodes.tree(user, id) if n.kind == "message"]
    answers = [node.id for node in tree if node.message.role == "assistant"]
    opinions = await store.opinions.on(user, id, answers)
    family = Family(tree, opinions, record.head, record.settings.system)
    for row in family.rows(kind, Origin(OWN, 0, user, id)):
        yield row


class Family:
    """A conversation as a tree of siblings.

    Args:
        tree: its messages.
        opinions: what its user thinks of answers.
        head: where its user stands; the path to there is what was kept.
        instruction: the system prompt.
    """

    def __init__(
        self,
        tree: Sequence[NodeRecord],
        opinions: Mapping[str, Feedback],
        head: str | None,
        instruction: str | None,
    ) -> None:
        self._nodes = {node.id: node for node in tree}
        self._opinions = opinions
        self._instruction = instruction
        self._kept = {node.id for node in self._path(head)}
        self._children: dict[str, list[NodeRecord]] = defaultdict(list)
        for node in tree:
            if node.message.role == "assistant" and node.parent and _is_whole(node):
                self._children[node.parent].append(node)

    def rows(self, kind: Kind, origin: Origin) -> Iterator[Row]:
        """Give its rows of one kind."""
        for parent, siblings in self._children.items():
            try:
                asked = in_order(self._asked(parent))
            except InputError:
                continue
            match kind:
                case "example":
                    yield from self._examples(asked, siblings, origin)
                case "pair":
                    yield from self._pairs(asked, siblings, origin)
                case "thumb":
                    yield from self._thumbs(asked, siblings, origin)

    def _examples(
        self, asked: tuple[Message, ...], siblings: Sequence[NodeRecord], origin: Origin
    ) -> Iterator[Row]:
        for node in siblings:
            if self._thumb(node) == "up":
                said = (*asked, node.message)
                yield Example(said, origin._replace(made_by=(_maker(node),)), last_only=True)

    def _pairs(
        self, asked: tuple[Message, ...], siblings: Sequence[NodeRecord], origin: Origin
    ) -> Iterator[Row]:
        for better, worse in self._preferences(siblings):
            if better.message.content != worse.message.content:
                makers = (_maker(better), _maker(worse))
                yield Pair(asked, better.message, worse.message, origin._replace(made_by=makers))

    def _preferences(
        self, siblings: Sequence[NodeRecord]
    ) -> Iterator[tuple[NodeRecord, NodeRecord]]:
        """Name who is better than whom: by thumbs, else by an edit, else by what was kept."""
        for better in siblings:
            for worse in siblings:
                if better is not worse and self._rank(better, worse):
                    yield better, worse

    def _rank(self, better: NodeRecord, worse: NodeRecord) -> bool:
        thumbs = self._thumb(better), self._thumb(worse)
        if thumbs == ("up", "down"):
            return True
        if thumbs != (None, None):
            return False
        if _is_edit(better) != _is_edit(worse):
            return _is_edit(better) and worse.number < better.number
        return better.id in self._kept and worse.id not in self._kept

    def _thumbs(
        self, asked: tuple[Message, ...], siblings: Sequence[NodeRecord], origin: Origin
    ) -> Iterator[Row]:
        for node in siblings:
            if thumb := self._thumb(node):
                made = origin._replace(made_by=(_maker(node),))
                yield Thumb(asked, node.message, thumb == "up", made)

    def _thumb(self, node: NodeRecord) -> str | None:
        opinion = self._opinions.get(node.id)
        return opinion.thumb if opinion else None

    def _asked(self, parent: str) -> list[Message]:
        said = [node.message for node in self._path(parent)]
        return [system(self._instruction), *said] if self._instruction else said

    def _path(self, end: str | None) -> list[NodeRecord]:
        path: list[NodeRecord] = []
        while end is not None and end in self._nodes:
            path.append(self._nodes[end])
            end = path[-1].parent
        return path[::-1]


def _is_whole(node: NodeRecord) -> bool:
    """Tell whether an answer came to its own end; what a person wrote is whole."""
    if not node.message.content.strip() and not node.message.tool_calls:
        return False
    return node.facts is None or (node.facts.status == "done" and node.facts.finish != "length")


def _is_edit(node: NodeRecord) -> bool:
    return node.facts is None


def _maker(node: NodeRecord) -> str:
    if node.facts is None:
        return "a person"
    worn = f" with {node.facts.adapter}" if node.facts.adapter else ""
    drawn = json.dumps(dict(node.facts.sampling), sort_keys=True)
    return f"{node.facts.model}{worn} {drawn}"


def _numbered(row: Row, number: int) -> Row:
    return replace(row, origin=row.origin._replace(line=number))
