"""What a run leaves: a folder with every answer, and a record of how it was made."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chatkit.errors import InputError
from chatkit.store.whole_file import whole_file

if TYPE_CHECKING:
    from pandas import DataFrame

VERSION = 1
RECORD, ANSWERS = "run.json", "answers.jsonl"
Status = Literal["running", "complete", "partial"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one sample.

    Args:
        sample: its id.
        turn: which time it was asked, from 0.
        asked: what the user said.
        said: what the model answered to each.
        score: from 0 to 1; None when it failed.
        explanation: of the score.
        talk: scores of the whole conversation.
        slices: of the sample.
        prompt_ids: the tokens that were read for the last answer.
        finish: why the last answer ended.
        completion_tokens: of all answers.
        first_token_seconds: of the last answer.
        seconds: of all answers, without the queue.
        error: what failed; empty when nothing did.
    """

    sample: str
    turn: int
    asked: tuple[str, ...]
    said: tuple[str, ...]
    score: float | None
    explanation: str = ""
    talk: Mapping[str, float] = field(default_factory=dict)
    slices: Mapping[str, str] = field(default_factory=dict)
    prompt_ids: tuple[int, ...] = ()
    finish: str = ""
    completion_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """How a run was made.

    Args:
        suite: the suite's name.
        identity: the hash of its questions.
        model: the model's name, as it was asked for.
        engine: the engine's name.
        weights: a signature of the model's weights; None where a server has them.
        template: the identity of the template that rendered the prompts.
        sampling: how answers were drawn.
        samples: how many there are.
        passes: how often each is asked.
        status: whether all were answered.
        made: versions, commit, machine, times.
        version: of this form.
    """

    suite: str
    identity: str
    model: str
    engine: str
    weights: str | None
    template: str
    sampling: Mapping[str, Any]
    samples: int
    passes: int
    status: Status
    made: Mapping[str, Any]
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Run:
    """A run that was read back.

    Args:
        folder: where it lies.
        record: how it was made.
        answers: by sample and turn.
    """

    folder: Path
    record: Record
    answers: Mapping[tuple[str, int], Answer]

    @property
    def scores(self) -> dict[str, float]:
        """The mean score of each sample that was answered."""
        found: dict[str, list[float]] = {}
        for answer in self.answers.values():
            if answer.score is not None:
                found.setdefault(answer.sample, []).append(answer.score)
        return {sample: sum(scores) / len(scores) for sample, scores in found.items()}

    @property
    def frame(self) -> "DataFrame":
        """All answers, one row each; `frame.to_parquet(path)` writes them for other tools."""
        from pandas import DataFrame

        rows = [asdict(answer) for answer in self.answers.values()]
        for row in rows:
            for kind in ("slices", "talk"):
                row |= {f"{kind}: {name}": value for name, value in row.pop(kind).items()}
        return DataFrame(rows)

    @property
    def failed(self) -> list[Answer]:
        """The answers that failed."""
        return [answer for answer in self.answers.values() if answer.error]

    @property
    def missing(self) -> int:
        """How many answers were never asked for."""
        return self.record.samples * self.record.passes - len(self.answers)


def write_record(folder: Path, record: Record) -> None:
    """Write how a run was made, in one step."""
    with whole_file(folder / RECORD, replace=True) as file:
        file.write((json.dumps(asdict(record), indent=2, sort_keys=True) + "\n").encode())


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises:
        InputError: the folder holds none, or one of another version.
    """
    try:
        said = json.loads((folder / RECORD).read_text("utf-8"))
        if said.get("version") != VERSION:
            raise InputError(
                f"The run in {folder} is of version {said.get('version')} and this chatkit reads "
                f"{VERSION}; run the suite again."
            )
        record = Record(**said)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} holds no run ({error}); give a folder of one.") from None
    answers = {(one.sample, one.turn): one for one in read_answers(folder / ANSWERS)}
    return Run(folder, record, answers)


def read_answers(path: Path) -> Iterator[Answer]:
    """Read answers; a line that a crash cut off is as if it was never asked."""
    if not path.exists():
        return
    lines = path.read_text("utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            said = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            raise InputError(f"{path}:{number} is no JSON; the run was changed by hand.") from None
        tuples = {name: tuple(said[name]) for name in ("asked", "said", "prompt_ids")}
        yield Answer(**(said | tuples))


class AnswerLog:
    """Writes answers as they come, each whole or not at all.

    Args:
        path: of the file; a line that a crash cut off is taken away.
    """

    def __init__(self, path: Path) -> None:
        whole = path.read_bytes() if path.exists() else b""
        kept = whole[: whole.rfind(b"\n") + 1]
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(len(kept))
        self._file.seek(len(kept))

    def add(self, answer: Answer) -> None:
        """Write one, so that it survives this process."""
        line = json.dumps(asdict(answer), ensure_ascii=False)
        self._file.write(line.encode("utf-8", "replace") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
