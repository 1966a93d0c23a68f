"""A suite: questions with what a good answer is, as YAML and JSON lines."""

import difflib
import gzip
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chatkit.errors import InputError
from chatkit.sampling import Sampling
from chatkit.scorers import Scorer, scorer_of
from chatkit.scorers.talking import talk_scorer
from chatkit.yaml_options import Options, Text, read_yaml

HINT = "`name`, `data` and `scorer`"
_FIELD = re.compile(r"\{(\w+)\}")


class Columns(Options):
    """Which keys of a record hold what; a reference may join several, as in `{test}`.

    Args:
        id: names the sample; its line without one.
        prompt: the question.
        turns: a list of questions, asked one after the other.
        reference: what an answer is compared with.
        choices: a list of answers, of which the likeliest is taken.
        slices: what results are told apart by.
    """

    title: ClassVar[str] = "columns"

    id: Text = "id"
    prompt: Text = "prompt"
    turns: Text = "turns"
    reference: Text = "reference"
    choices: Text = "choices"
    slices: tuple[Text, ...] = ()


class Suite(Options):
    """What is asked, and how answers are scored.

    Args:
        name: what results are called by.
        about: what it measures, in a sentence.
        data: JSON lines, beside the YAML file; `.gz` is read too.
        columns: which keys of a record hold what.
        prompt: the question's wording, with `{column}` for the record's.
        reference: the same for the reference.
        system: the system prompt.
        kind: `text` lets the model write; `choice` takes the likeliest of a record's choices.
        scorer: of text, as `chatkit.scorers.scorer_of` reads it; a record's own goes first.
        talk: scorers of whole conversations.
        sampling: how answers are drawn; greedy, unless it says otherwise.
        seed: of draws, and of which samples a limit takes.
    """

    title: ClassVar[str] = "the suite"

    name: Text
    about: str = ""
    data: Text
    columns: Columns = Columns()
    prompt: str | None = None
    reference: str | None = None
    system: str | None = None
    kind: Literal["text", "choice"] = "text"
    scorer: dict[str, Any] | None = None
    talk: tuple[Text, ...] = ()
    sampling: dict[str, Any] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def drawn(self) -> Sampling:
        """The sampling of its answers."""
        return Sampling(**{"temperature": 0.0, "seed": self.seed, **self.sampling})


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing to ask.

    Args:
        id: its name in the suite.
        turns: what the user says, one after the other.
        reference: what the last answer is compared with.
        choices: answers of which the likeliest is taken; none where the model writes.
        scorer: its own, None for the suite's.
        slices: what results are told apart by.
    """

    id: str
    turns: tuple[str, ...]
    reference: str | None = None
    choices: tuple[str, ...] = ()
    scorer: Mapping[str, Any] | None = None
    slices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Questions:
    """A suite with its samples read.

    Args:
        suite: what it says.
        samples: in the order of the file.
        identity: a hash of suite and samples.
    """

    suite: Suite
    samples: tuple[Sample, ...]
    identity: str

    def scorer(self, sample: Sample) -> Scorer:
        """Make the scorer of a sample.

        Raises:
            InputError: neither it nor the suite has one.
        """
        said = sample.scorer or self.suite.scorer
        if said is None:
            raise InputError(f"Sample {sample.id} of {self.suite.name} has no scorer; add one.")
        return scorer_of(said)


def find_suite(name: str, folder: Path) -> Path:
    """Find a suite's file by path, or by name in a folder.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(known) or 'a path'}."
        raise InputError(f"There is no suite {name!r}; {hint}")
    return known[name]


def read_suite(path: Path, *, limit: int | None = None, seed: int | None = None) -> Questions:
    """Read a suite and its samples.

    Args:
        path: the YAML file.
        limit: take so many samples, drawn by the seed; None takes all.
        seed: in place of the suite's.

    Raises:
        InputError: an option or a record is wrong, a file is missing, or there are no samples.
    """
    said = read_yaml(path, HINT)
    suite = Suite.model_validate(said | ({} if seed is None else {"seed": seed}))
    suite.drawn  # noqa: B018 (bad sampling is told before anything loads)
    samples = list(_samples(suite, path.parent / Path(suite.data).expanduser()))
    if not samples:
        raise InputError(f"The suite {suite.name} has no samples in {suite.data}; add some.")
    _refuse_doubles(suite, samples)
    if limit is not None and limit < len(samples):
        kept = set(random.Random(suite.seed).sample(range(len(samples)), limit))
        samples = [sample for place, sample in enumerate(samples) if place in kept]
    questions = Questions(suite, tuple(samples), _identity(suite, samples))
    for sample in samples:
        if suite.kind == "text" and (suite.scorer or sample.scorer or not suite.talk):
            questions.scorer(sample)
    for name in suite.talk:
        talk_scorer(name)
    return questions


def _samples(suite: Suite, path: Path) -> Iterator[Sample]:
    for number, record in _records(path):
        try:
            yield _sample(suite, record, number)
        except InputError as error:
            raise InputError(f"{path}:{number}: {str(error).rstrip('.')}.") from None


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    record = json.loads(line)
                    if not isinstance(record, Mapping):
                        raise InputError(f"{path}:{number} is no object; write one to a line.")
                    yield number, record
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The suite's data {path} cannot be read ({error}); check it.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{number} is no JSON ({error.msg}); correct it.") from None


def _sample(suite: Suite, record: Mapping[str, Any], number: int) -> Sample:
    columns = suite.columns
    said = record.get(columns.turns)
    if suite.prompt is not None:
        turns: tuple[str, ...] = (_worded(suite.prompt, record),)
    elif isinstance(said, list) and said and all(isinstance(turn, str) for turn in said):
        turns = tuple(said)
    elif isinstance(record.get(columns.prompt), str):
        turns = (record[columns.prompt],)
    else:
        raise InputError(
            f"it has neither {columns.prompt!r} nor {columns.turns!r} among its columns "
            f"({', '.join(map(str, record))}); set the suite's columns"
        )
    if not all(turn.strip() for turn in turns):
        raise InputError("it asks nothing; write something")
    reference = record.get(columns.reference)
    if suite.reference is not None:
        reference = _worded(suite.reference, record)
    choices = record.get(columns.choices) if suite.kind == "choice" else ()
    if suite.kind == "choice":
        _check_choices(choices, reference)
    return Sample(
        str(record.get(columns.id, number)),
        turns,
        None if reference is None else str(reference),
        tuple(map(str, choices or ())),
        record.get("scorer"),
        {name: str(record[name]) for name in columns.slices if name in record},
    )


def _check_choices(choices: Any, reference: Any) -> None:
    if not isinstance(choices, list) or len(choices) < 2:
        raise InputError("it needs a list of two choices or more")
    if str(reference) not in map(str, choices):
        raise InputError(f"its reference {reference!r} is none of its choices")


def _worded(wording: str, record: Mapping[str, Any]) -> str:
    """Put a record's columns into a wording; nothing in them is read as a wording again."""

    def of(match: re.Match[str]) -> str:
        if match[1] not in record:
            raise InputError(f"it has no column {match[1]!r}, which the suite's wording names")
        return str(record[match[1]])

    return _FIELD.sub(of, wording)


def _refuse_doubles(suite: Suite, samples: list[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise InputError(f"Two samples of {suite.name} are called {sample.id}; rename one.")
        seen.add(sample.id)


def _identity(suite: Suite, samples: list[Sample]) -> str:
    asked = [[s.id, s.turns, s.reference, s.choices, s.scorer and dict(s.scorer)] for s in samples]
    canonical = json.dumps([suite.model_dump(), asked], sort_keys=True, ensure_ascii=False)
    return sha256(canonical.encode()).hexdigest()[:16]
