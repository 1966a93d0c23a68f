"""What need not be done twice: answers to identical prompts, and paths that were just read."""

import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from chatkit import telemetry
from chatkit.engine import Delta, Engine
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.store.records import NodeRecord

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_LOADS = count(1)


class Bounded(Generic[Key, Value]):
    """Remembers a bounded number of things for a bounded time, the least recently used go first.

    Args:
        name: what metrics call it.
        most: how many things, each counted by `weigh`.
        seconds: how long each is remembered.
        weigh: how much a thing counts; 1 each when None.
    """

    def __init__(
        self,
        name: str,
        most: int,
        seconds: float,
        weigh: Callable[[Value], int] | None = None,
    ) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self._most = most
        self._seconds = seconds
        self._weigh = weigh or (lambda _: 1)
        self._held: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._weight = 0

    def get(self, key: Key) -> Value | None:
        """Give what is remembered, None when nothing is; counts hits and misses."""
        found = self._held.get(key)
        if found is not None and time.monotonic() - found[0] > self._seconds:
            self.drop([key])
            found = None
        if found is not None:
            self._held.move_to_end(key)
        outcome = "miss" if found is None else "hit"
        self.counts[outcome] += 1
        telemetry.cache_asked(self.name, outcome)
        return None if found is None else found[1]

    def __contains__(self, key: Key) -> bool:
        """Tell whether something is remembered, without counting the question."""
        return key in self._held

    def put(self, key: Key, value: Value) -> None:
        """Remember something, unless it alone is more than all may be."""
        self.drop([key])
        if self._weigh(value) > self._most:
            return
        self._held[key] = (time.monotonic(), value)
        self._weight += self._weigh(value)
        while self._weight > self._most:
            self.drop([next(iter(self._held))])

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget some things."""
        for key in list(keys):
            held = self._held.pop(key, None)
            if held is not None:
                self._weight -= self._weigh(held[1])

    def __iter__(self) -> Iterator[Key]:
        """Name everything that is remembered."""
        return iter(tuple(self._held))


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What must be equal for an answer to be the same.

    Args:
        user: whose prompt it is: nobody's text reaches another.
        conversation: where it was asked; not part of the comparison.
        model: the model's name.
        engine: which load of it: a model that was loaded again is another one.
        adapter: the adapter on it.
        identity: the hash of the template.
        prompt: the hash of the token ids.
        sampling: everything about how it is drawn.
    """

    user: str
    conversation: str = field(compare=False)
    model: str
    engine: int
    adapter: str | None
    identity: str
    prompt: str
    sampling: str


class AnswerCache:
    """Answers that would come out the same again.

    Args:
        most: characters of all answers together.
        seconds: how long each is kept.
    """

    def __init__(self, most: int = 8_000_000, seconds: float = 3_600.0) -> None:
        self._answers: Bounded[AnswerKey, tuple[str, Delta]] = Bounded(
            "answers", most, seconds, lambda answer: len(answer[0]) + 1
        )
        self._loads: dict[str, int] = {}
        self._numbers: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()

    @property
    def counts(self) -> Counter[str]:
        """How often something was found (`hit`) and was not (`miss`)."""
        return self._answers.counts

    def load_number(self, engine: Engine) -> int:
        """Give each load of a model a number, so that new weights never give old answers."""
        return self._numbers.setdefault(engine, next(_LOADS))

    def get(self, key: AnswerKey) -> tuple[str, Delta] | None:
        """Give an answer's text and its last delta, None when it is not there."""
        if self._loads.setdefault(key.model, key.engine) != key.engine:
            self._loads[key.model] = key.engine
            self._answers.drop(k for k in self._answers if k.model == key.model)
        return self._answers.get(key)

    def put(self, key: AnswerKey, text: str, last: Delta) -> None:
        """Keep an answer that has ended by itself."""
        self._answers.put(key, (text, last))

    def forget(self, user: str) -> None:
        """Forget a user's answers."""
        self._answers.drop(key for key in self._answers if key.user == user)

    def forget_conversation(self, conversation: str) -> None:
        """Forget the answers of one conversation."""
        self._answers.drop(key for key in self._answers if key.conversation == conversation)


def is_deterministic(sampling: Sampling) -> bool:
    """Tell whether the same prompt gives the same answer: temperature 0."""
    return sampling.temperature == 0


def prompt_hash(prompt: Prompt) -> str:
    """Hash a prompt's token ids."""
    return hashlib.sha256(repr(prompt.ids).encode()).hexdigest()


class PathCache:
    """Paths that were just read, so that a turn of a long conversation reads only what is new.

    A message that has ended never changes, so what is remembered stays true; running answers
    are not remembered.

    Args:
        most: characters of all messages together.
        seconds: how long a path is remembered.
    """

    def __init__(self, most: int = 32_000_000, seconds: float = 600.0) -> None:
        self._paths: Bounded[tuple[str, str], tuple[NodeRecord, ...]] = Bounded(
            "paths", most, seconds, _characters
        )

    @property
    def counts(self) -> Counter[str]:
        """How often something was found (`hit`) and was not (`miss`)."""
        return self._paths.counts

    def extend(
        self, conversation: str, tail: Sequence[NodeRecord]
    ) -> tuple[NodeRecord, ...] | None:
        """Give the path to the end of `tail`, when a path to one of its messages is remembered.

        Args:
            conversation: where.
            tail: the newest messages of the path, oldest first.
        """
        remembered = [i for i, node in enumerate(tail) if (conversation, node.id) in self._paths]
        place = remembered[-1] if remembered else 0
        known = self._paths.get((conversation, tail[place].id))
        return None if known is None else (*known, *tail[place + 1 :])

    def put(self, conversation: str, path: tuple[NodeRecord, ...]) -> None:
        """Remember a path in place of the shorter one that it goes on from."""
        if not path or any(node.facts and node.facts.open for node in path):
            return
        for node in path[-3:-1]:
            self._paths.drop([(conversation, node.id)])
        self._paths.put((conversation, path[-1].id), path)

    def forget(self, conversation: str) -> None:
        """Forget a conversation's paths."""
        self._paths.drop(key for key in self._paths if key[0] == conversation)


def _characters(path: tuple[NodeRecord, ...]) -> int:
    return sum(len(node.message.content) + 100 for node in path)
