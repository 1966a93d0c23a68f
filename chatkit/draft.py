"""Drafts of a prompt: the path cut into turns, and what asking without some of them takes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from chatkit.marks import Place
from chatkit.messages import Message
from chatkit.messages import system as system_message
from chatkit.rendering import Rendering
from chatkit.scales import Weight
from chatkit.template import ChatTemplate

# Who owns a text that is no message of the path; those are owned by their index.
SYSTEM, SUMMARY, TEMPLATE = -1, -2, -3

_SUMMARY_BEGINS = "Summary of the earlier conversation: "
_BETWEEN = "\n\n"
_MAY_MERGE = 4


@dataclass(frozen=True, slots=True)
class Item:
    """One message of the path.

    Args:
        id: its name in the tree.
        message: what was said.
        pinned: whether its turn must stay.
    """

    id: str
    message: Message
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands for turns that left.

    Args:
        id: its name in the store.
        text: what it says.
        upto: the id of the last item that it covers.
    """

    id: str
    text: str
    upto: str


class Turn(NamedTuple):
    """A user's message with everything up to the next one: `items[start:end]`.

    Args:
        start: the index of its first item.
        end: the index after its last.
        tokens: what its messages bring into a prompt.
        trimmed: what they bring at least, into a template that trims them.
        pinned: whether it holds a pinned message.
        system: whether it holds a system message.
    """

    start: int
    end: int
    tokens: int
    trimmed: int
    pinned: bool
    system: bool


class Part(NamedTuple):
    """A part of a text that has an owner: `text[start:end]`."""

    owner: int
    start: int
    end: int


class Said(NamedTuple):
    """A message to be sent, and who owns which part of its content."""

    message: Message
    parts: tuple[Part, ...]


class Path:
    """A path of the conversation, cut into turns and weighed.

    Args:
        template: the model's template.
        items: the messages, from the first to the newest question.
        system: the system prompt; None leaves it to the template.
    """

    def __init__(self, template: ChatTemplate, items: Sequence[Item], system: str | None) -> None:
        self.template = template
        self.items = items
        self.system = system
        self.weights = [template.weigh(item.message) for item in items]
        self.turns = list(_turns(items, self.weights))

    def turns_until(self, id: str) -> int:
        """Count the whole turns up to and including this item; the newest is none of them."""
        at = next((n for n, item in enumerate(self.items) if item.id == id), -1)
        return sum(turn.end <= at + 1 for turn in self.turns[:-1])


class Draft(NamedTuple):
    """A prompt that was tried.

    Args:
        left: how many of the turns that may leave have left.
        said: the messages that go in.
        rendering: what the template made of them.
    """

    left: int
    said: list[Said]
    rendering: Rendering

    @property
    def tokens(self) -> int:
        """The tokens of the prompt."""
        return self.rendering.tokens


class Drafts:
    """The ways to ask about one path; they differ in how many turns have left.

    Args:
        path: the path.
        summary: what stands for the turns that it covers; None for none.
    """

    def __init__(self, path: Path, summary: Summary | None = None) -> None:
        self.path = path
        self.summary = summary
        self.covered = path.turns_until(summary.upto) if summary else 0
        may_leave = [n for n, t in enumerate(path.turns[:-1]) if not t.pinned and not t.system]
        self.summarised = frozenset(n for n in may_leave if n < self.covered)
        self.movable = [n for n in may_leave if n >= self.covered]

    def gone(self, left: int) -> Collection[int]:
        """Give the numbers of the turns that are not sent once so many have left."""
        return self.summarised.union(self.movable[:left])

    def write(self, left: int) -> Draft:
        """Render what is asked once so many turns have left.

        Raises:
            TemplateError: the template refuses these messages.
        """
        gone = self.gone(left)
        kept = [turn for number, turn in enumerate(self.path.turns) if number not in gone]
        said = self._said([n for turn in kept for n in range(turn.start, turn.end)])
        return Draft(left, said, self.path.template.rendering([one.message for one in said]))

    def fewest(self, room: int, beside: float) -> int:
        """Guess how many turns must leave; more than there are, when that cannot be enough.

        Args:
            room: the tokens that the prompt may take.
            beside: what it is thought to take beside its messages.
        """
        lefts = range(len(self.movable) + 1)
        return bisect_left(lefts, True, key=lambda left: self._expected[left] + beside <= room)

    @property
    def usually_beside(self) -> float:
        """What a prompt usually takes beside its messages."""
        template = self.path.template
        default = template.identity.default_system
        if not default or not (self.path.system or self.summary):
            return template.added.once
        own = template.weigh(system_message(default)).tokens
        return template.added.once - own - template.added.each

    def beside(self, draft: Draft) -> float:
        """Measure what a draft takes beside its messages, as far as that was not expected."""
        return draft.tokens - self._expected[draft.left]

    def surely_adds(self, left: int) -> float:
        """Give what the turn that left last would add to a prompt, at the very least.

        Tokens may merge where texts meet, so some are taken off for each message.
        """
        if left == 0:
            return 0
        turn = self.path.turns[self.movable[left - 1]]
        each = self.path.template.added.each - _MAY_MERGE
        return turn.trimmed + (turn.end - turn.start) * each

    def shares(self, draft: Draft) -> Counter[int]:
        """Give each token to the owner whose text it holds; what is left is the template's own.

        A token that holds text of two owners counts for the first.
        """
        template, rendering = self.path.template, draft.rendering
        places = template.places([one.message for one in draft.said], rendering)
        parts = [part for place in places for part in _parts_at(place, draft.said[place.message])]
        counts = rendering.shares([(part.start, part.end) for part in parts])
        shares: Counter[int] = Counter()
        for part, tokens in zip(parts, counts, strict=True):
            if part.owner != TEMPLATE:
                shares[part.owner] += tokens
        return shares

    @cached_property
    def _expected(self) -> list[float]:
        """What the messages are thought to take, for each number of turns that have left."""
        path, each = self.path, self.path.template.added.each
        head = [path.system, self.summary.text if self.summary else None]
        texts = [path.template.weigh(system_message(text)).tokens for text in head if text]
        sizes = [turn.tokens + each * (turn.end - turn.start) for turn in path.turns]
        stays = sum(size for n, size in enumerate(sizes) if n not in self.summarised)
        leaving = (-sizes[number] for number in self.movable)
        return list(accumulate(leaving, initial=sum(texts) + each * len(texts) + stays))

    def _said(self, indices: Sequence[int]) -> list[Said]:
        """Put the system prompt and the summary in front of the messages with these indices."""
        said = [_whole(index, self.path.items[index].message) for index in indices]
        if self.path.system:
            said.insert(0, _whole(SYSTEM, system_message(self.path.system)))
        return self._summed_up(said) if self.summary else said

    def _summed_up(self, said: list[Said]) -> list[Said]:
        """Add the summary to the system message, or to the first question where none may be."""
        assert self.summary is not None
        summary = (SUMMARY, _SUMMARY_BEGINS + self.summary.text)
        template = self.path.template
        if not template.takes_system:
            first = next(n for n, one in enumerate(said) if one.message.role == "user")
            own = (said[first].parts[0].owner, said[first].message.content)
            return [*said[:first], _joined(said[first].message, summary, own), *said[first + 1 :]]
        if said[0].message.role == "system":
            own = (said[0].parts[0].owner, said[0].message.content)
            return [_joined(said[0].message, own, summary), *said[1:]]
        # A system message of ours would replace what the template says by itself.
        default = (TEMPLATE, template.identity.default_system)
        return [_joined(system_message(""), *([default] if default[1] else []), summary), *said]


def _turns(items: Sequence[Item], weights: Sequence[Weight]) -> Iterator[Turn]:
    start, tokens, trimmed, pinned, system = 0, 0, 0, False, False
    for index, item in enumerate(items):
        role = item.message.role
        if role == "user" and index:
            yield Turn(start, index, tokens, trimmed, pinned, system)
            start, tokens, trimmed, pinned, system = index, 0, 0, False, False
        tokens += weights[index].tokens
        trimmed += weights[index].trimmed
        pinned = pinned or item.pinned
        system = system or role == "system"
    yield Turn(start, len(items), tokens, trimmed, pinned, system)


def _whole(owner: int, message: Message) -> Said:
    return Said(message, (Part(owner, 0, len(message.content)),))


def _joined(message: Message, *texts: tuple[int, str]) -> Said:
    """Give the message these texts as its content, with their owners."""
    parts: list[Part] = []
    start = 0
    for owner, text in texts:
        parts.append(Part(owner, start, start + len(text)))
        start += len(text) + len(_BETWEEN)
    content = _BETWEEN.join(text for _, text in texts)
    return Said(replace(message, content=content), tuple(parts))


def _parts_at(place: Place, one: Said) -> Iterator[Part]:
    """Give the parts of a message in positions of the rendered text."""
    if len(one.parts) == 1:
        yield Part(one.parts[0].owner, place.start, place.end)
        return
    content = one.message.content
    trimmed = place.end - place.start != len(content)
    zero = place.start - (len(content) - len(content.lstrip()) if trimmed else 0)
    for owner, start, end in one.parts:
        first = max(zero + start, place.start)
        yield Part(owner, first, max(first, min(zero + end, place.end)))
