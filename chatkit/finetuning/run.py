"""One run from a recipe to a result."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit.errors import InputError, NotEnoughMemory
from chatkit.finetuning.card import write_card
from chatkit.finetuning.effects import (
    preference_effects,
    teacher_effects,
    thumb_effects,
    unrelated_effects,
)
from chatkit.finetuning.gathering import Files, files_in, gather
from chatkit.finetuning.lineage import lineage_of, write_people
from chatkit.finetuning.output import METRICS, SAMPLES, Output, last_checkpoint
from chatkit.finetuning.planning import plan_steps
from chatkit.finetuning.plots import plot_losses
from chatkit.finetuning.questions import asked_questions
from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.report import DataReport, report_of
from chatkit.finetuning.table import read_table
from chatkit.finetuning.training.arguments import processes
from chatkit.finetuning.training.weights import training_device
from chatkit.loading.bases import Base, find_base
from chatkit.scorers import scorer_of
from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

    from chatkit.finetuning.training.arguments import Steps

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run left.

    Args:
        folder: where it is.
        metrics: the figures at its end.
        stopped_by: the signal that ended it early; None when it came to its end.
    """

    folder: Path
    metrics: dict[str, Any]
    stopped_by: str | None = None


def run(recipe: Recipe, *, resume: bool = False, say: Say = print) -> Result:
    """Tune a model as a recipe says.

    Args:
        recipe: what to do.
        resume: go on from the last checkpoint in the output folder.
        say: takes lines for a person.

    Raises:
        InputError: the data, the output folder or an option cannot be used.
        NotEnoughMemory: not even one row at a time fits.
        TrainingDiverged: the loss is no number any more.
        DiskFull: a checkpoint or the result cannot be written.
    """
    from accelerate import PartialState

    base = find_base(recipe.base)
    template = base.template
    output = Output(recipe)
    together = PartialState(cpu=training_device() == "cpu") if processes() > 1 else None
    if together is None or together.is_main_process:
        checkpoint = output.prepare(resume=resume)
        files, report = gather(recipe, template, output.data)
        say(_data_sentence(report))
        output.write_json("data/report.json", report.as_json())
        lineage = lineage_of(recipe, base, template, files, report)
        if resume:
            output.check_same_data(lineage)
        write_people(report, output.folder)
        output.write_lineage(lineage)
    if together is not None:
        together.wait_for_everyone()
    if together is not None and not together.is_main_process:
        checkpoint = last_checkpoint(output.checkpoints) if resume else None
        files, report = files_in(output.data), report_of(output.folder / "data/report.json")
        say = _nobody
    return _Run(recipe, base, template, output, files, report, say).train(checkpoint)


def _nobody(line: str) -> None:
    """Take what other processes say already."""


class _Run:
    def __init__(
        self,
        recipe: Recipe,
        base: Base,
        template: ChatTemplate,
        output: Output,
        files: Files,
        report: DataReport,
        say: Say,
    ) -> None:
        self._recipe = recipe
        self._base = base
        self._template = template
        self._output = output
        self._report = report
        self._say = say
        self._train = read_table(files.train)
        self._held_out = self._held_out_rows(read_table(files.held_out))

    def train(self, checkpoint: Path | None) -> Result:
        from chatkit.finetuning.training.callbacks import Signals

        signals = Signals()
        share = self._report.trained_tokens / max(1, self._report.tokens)
        steps = plan_steps(self._recipe, self._base, share)
        with signals.listening():
            trainer = self._trained(steps, checkpoint, signals)
        return self._finish(trainer, signals.heard)

    def _trained(self, steps: "Steps", checkpoint: Path | None, signals: Any) -> "Trainer":
        """Train; where memory runs out, go on with half as many rows at once."""
        from chatkit.engines.weights import return_memory
        from chatkit.finetuning.training.watched import is_out_of_memory

        while True:
            trainer = self._trainer(steps, signals)
            try:
                if checkpoint is None:
                    trainer.evaluate()
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                return trainer
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if steps.micro_batch == 1:
                    raise NotEnoughMemory(
                        "Not even one row at a time fits into memory; lower data.longest, or "
                        "set train.checkpointing to true or quantize to int4."
                    ) from error
            del trainer
            return_memory()
            steps = steps.halved()
            checkpoint = last_checkpoint(self._output.checkpoints)
            self._say(
                f"Memory ran out; going on with {steps.micro_batch} rows at once, "
                f"{steps.accumulation} times per step."
            )

    def _trainer(self, steps: "Steps", signals: Any) -> "Trainer":
        from transformers import AutoTokenizer, EarlyStoppingCallback, PrinterCallback, set_seed

        from chatkit.finetuning.training.callbacks import Narrator
        from chatkit.finetuning.training.job import Job
        from chatkit.finetuning.training.methods import trainer_of
        from chatkit.loading.quiet import quiet_libraries

        set_seed(self._recipe.train.seed)
        narrator = Narrator(self._say, self._output.folder / METRICS)
        callbacks = [narrator, self._questions(), signals]
        if patience := self._recipe.measure.patience:
            callbacks.append(EarlyStoppingCallback(patience))
        job = Job(
            recipe=self._recipe,
            base=self._base,
            template=self._template,
            tokenizer=AutoTokenizer.from_pretrained(self._base.tokenizer),
            train=self._train,
            held_out=self._held_out,
            folder=self._output.checkpoints,
            steps=steps,
            callbacks=callbacks,
        )
        with quiet_libraries():
            trainer: Any = trainer_of(job)
        trainer.remove_callback(PrinterCallback)
        narrator.trainer = trainer
        made: Trainer = trainer
        return made

    def _questions(self) -> Any:
        from chatkit.finetuning.training.asking import greedy_answers
        from chatkit.finetuning.training.callbacks import Questions

        measure, template = self._recipe.measure, self._template
        prompts, texts, references = asked_questions(self._recipe, template, self._held_out)
        return Questions(
            lambda model: greedy_answers(model, template, prompts, measure.answer_tokens),
            texts,
            references,
            scorer_of(measure.scorer) if measure.scorer else None,
            self._say,
            self._output.folder / SAMPLES,
        )

    def _held_out_rows(self, table: "Dataset") -> "Dataset":
        if len(table) == 0:
            raise InputError(
                "No row is held out, so nothing could be measured; give more data, or raise "
                "data.held_out."
            )
        return table.select(range(min(len(table), self._recipe.measure.rows)))

    def _finish(self, trainer: "Trainer", heard: str | None) -> Result:
        """Measure, and write what is left; a run that was stopped has its checkpoint only."""
        if heard:
            self._say(f"Stopped by {heard}; go on with --resume.")
            return Result(self._output.folder, {}, heard)
        if not _is_measured(trainer):
            trainer.evaluate()
        if not trainer.is_world_process_zero():
            return Result(self._output.folder, {})
        self._output.save(
            trainer.model, trainer.processing_class, self._template, self._base.public_name
        )
        figures = self._output.metrics()
        metrics = _last_figures(figures)
        metrics |= self._effects(trainer, metrics)
        self._output.write_json("result.json", metrics)
        plot_losses(figures, self._output.folder / "loss.png")
        write_card(self._recipe, self._base, self._report, [*figures, metrics], self._output.folder)
        self._say(f"The result is in {self._output.folder}; open it with chatkit.load().")
        return Result(self._output.folder, metrics)

    def _effects(self, trainer: Any, metrics: dict[str, Any]) -> dict[str, float]:
        """Compare the result with its base, where that can be switched on, or with its teacher."""
        recipe, has_adapter = self._recipe, self._recipe.adapter.kind != "full"
        model = trainer.model
        found: dict[str, float] = {}
        model.eval()
        if has_adapter and recipe.method in ("dpo", "orpo"):
            found |= preference_effects(model, self._held_out)
        if has_adapter and recipe.method == "kto":
            found |= thumb_effects(model, self._held_out)
        if recipe.method == "distill":
            losses = metrics["first_eval_loss"], metrics["eval_loss"]
            found |= teacher_effects(trainer.taught_by, self._held_out, *losses)
        if recipe.measure.unrelated and recipe.method != "reward":
            found |= unrelated_effects(model, self._unrelated(), has_adapter=has_adapter)
        for name, value in found.items():
            self._say(f"{name.replace('_', ' ')}: {value:.4g}")
        return found

    def _unrelated(self) -> "Dataset":
        recipe = self._recipe
        data = recipe.data.model_copy(update={"train": (recipe.measure.unrelated,)})
        other = recipe.model_copy(update={"method": "sft", "data": data})
        files, _ = gather(other, self._template, self._output.data / "unrelated")
        table = read_table(files.train)
        return table.select(range(min(len(table), recipe.measure.rows)))


def _is_measured(trainer: "Trainer") -> bool:
    """Tell whether held-out rows were measured with the weights that training ended with."""
    if trainer.args.load_best_model_at_end:
        return False
    last = [line for line in trainer.state.log_history if line["step"] == trainer.state.global_step]
    return any(name.startswith("eval_") for line in last for name in line)


def _last_figures(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the last value of each figure, and the first of what was held out."""
    last = {name: value for line in figures for name, value in line.items()}
    first: dict[str, Any] = {}
    for line in figures:
        for name, value in line.items():
            if name.startswith("eval_"):
                first.setdefault(f"first_{name}", value)
    return {**last, **first}


def _data_sentence(report: DataReport) -> str:
    forms = ", ".join(f"{name} as {form}" for name, form in report.formats.items())
    left = [
        f"{count} {name}"
        for name, count in (
            ("refused", len(report.refused)),
            ("duplicates", report.duplicates),
            ("too long", len(report.too_long)),
            ("cut", report.cut),
            ("over the token budget", report.over_budget),
        )
        if count
    ]
    share = report.trained_tokens / max(1, report.tokens)
    return (
        f"Read {forms}: {report.train} rows to train on with {report.tokens:,} tokens, of which "
        f"{share:.0%} are trained; {report.held_out} held out"
        + (f"; {', '.join(left)}." if left else ".")
    )
