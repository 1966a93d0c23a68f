"""Who watches a run: tells how far it is, asks the model questions, and heeds signals."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from chatkit.finetuning.training.watched import Watched
from chatkit.scorers import Scorer

Say = Callable[[str], None]


class Narrator(TrainerCallback):
    """Tells every figure, with tokens per second and the time that is left.

    Args:
        say: takes a line for a person.
        file: takes every figure as a line of JSON.
    """

    def __init__(self, say: Say, file: Path) -> None:
        self.trainer: Watched | None = None
        self._say = say
        self._file = file
        self._began = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Start the clock."""
        self._began, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """Write figures down, and say them."""
        if not state.is_world_process_zero or not logs:
            return
        seconds = time.monotonic() - self._began
        tokens = self.trainer.real_tokens if self.trainer else 0
        line = {"step": state.global_step, "seconds": round(seconds, 2), "tokens": tokens, **logs}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if sentence := self._sentence(state, logs, seconds, tokens):
            self._say(sentence)

    def _sentence(self, state: Any, logs: Any, seconds: float, tokens: int) -> str:
        done, total = state.global_step, state.max_steps
        shown = [f"{name} {logs[key]:.4g}" for key, name in _SHOWN.items() if key in logs]
        if not shown:
            return ""
        if "loss" in logs and tokens:
            left = (total - done) * seconds / max(1, done - self._first)
            shown += [f"{tokens / seconds:.0f} tokens/s", f"{_duration(left)} left"]
        return ", ".join([f"step {done}/{total}", *shown])


_SHOWN = {
    "loss": "loss",
    "eval_loss": "held-out loss",
    "rewards/accuracies": "pairs right",
    "eval_rewards/accuracies": "held-out pairs right",
    "eval_accuracy": "held-out pairs right",
    "reward": "reward",
    "kl": "KL",
}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@dataclass(slots=True)
class Sample:
    """What a model said to a question while it was trained."""

    step: int
    question: str
    answer: str
    score: float | None


@dataclass(slots=True)
class Questions(TrainerCallback):
    """Asks the same questions whenever held-out rows are measured.

    Args:
        ask: gives the model's greedy answers to all of them.
        questions: their texts.
        references: what a good answer is compared with, one for each.
        scorer: how answers are scored; None shows them only.
        say: takes a line for a person.
        file: takes every answer as a line of JSON.
    """

    ask: Callable[[Any], list[str]]
    questions: Sequence[str]
    references: Sequence[str | None]
    scorer: Scorer | None
    say: Say
    file: Path
    samples: list[Sample] = field(default_factory=list)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Ask."""
        if not state.is_world_process_zero or not self.questions:
            return
        answers = self.ask(more["model"])
        asked = zip(self.questions, self.references, answers, strict=True)
        samples = [
            Sample(state.global_step, question, answer, self._score(question, answer, reference))
            for question, reference, answer in asked
        ]
        self.samples += samples
        with self.file.open("a", encoding="utf-8") as file:
            for sample in samples:
                told = {name: getattr(sample, name) for name in Sample.__slots__}
                file.write(json.dumps(told, ensure_ascii=False) + "\n")
        scores = [sample.score for sample in samples if sample.score is not None]
        if scores:
            self.say(f"  answers score {sum(scores) / len(scores):.2f} of 1")
        first = samples[0]
        self.say(f"  {first.question.splitlines()[-1][:60]!r} -> {first.answer[:100]!r}")

    def _score(self, question: str, answer: str, reference: str | None) -> float | None:
        return None if self.scorer is None else self.scorer(question, answer, reference).value


class Signals(TrainerCallback):
    """Lets SIGTERM and Ctrl-C end a run after the present step, with a checkpoint."""

    def __init__(self) -> None:
        self.heard: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Heed signals; outside the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        self.heard = signal.Signals(number).name

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Save and stop when a signal was heard."""
        if self.heard:
            control.should_save = True
            control.should_training_stop = True
        return control
