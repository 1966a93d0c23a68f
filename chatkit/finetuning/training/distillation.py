"""Distillation: a student learns its teacher's probabilities, or its answers."""

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, concatenate_datasets
from torch.nn.functional import kl_div
from trl import SFTConfig

from chatkit.engines.weights import load_weights
from chatkit.errors import InputError
from chatkit.finetuning.masking import IGNORED, last_answer
from chatkit.finetuning.training.asking import greedy_ids
from chatkit.finetuning.training.attention import attend_by_example
from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.losses import needed_logits, negative_log_likelihood
from chatkit.finetuning.training.rows import Joiner, packed_rows
from chatkit.finetuning.training.sft import SupervisedTrainer
from chatkit.finetuning.training.weights import load_base, training_device
from chatkit.loading.bases import find_base
from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DistillingTrainer(SupervisedTrainer):
    """Trains on a mixture of the data's answers and what the teacher thinks of each token.

    `teacher` is None when its answers are the data; `taught_by` is who it was, in any case.
    """

    teacher: "PreTrainedModel | None" = None
    taught_by: "PreTrainedModel"
    temperature = 1.0
    share = 0.5

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Give the mean loss of the trained tokens of a whole step, in nats."""
        if self.teacher is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        needed = needed_logits(model, inputs)
        with torch.no_grad():
            taught = needed_logits(self.teacher, inputs)
        # The gradient of softened probabilities is smaller by the square of the temperature.
        flat = self.temperature
        distance = kl_div(
            (needed.logits.float() / flat).log_softmax(-1),
            (taught.logits.float() / flat).log_softmax(-1),
            reduction="sum",
            log_target=True,
        )
        own = negative_log_likelihood(needed)
        mixed = self.share * distance * flat**2 + (1 - self.share) * own
        loss = self.per_token(mixed, needed, num_items_in_batch)
        return (loss, {"logits": needed.logits}) if return_outputs else loss


def distilling_trainer(job: Job) -> DistillingTrainer:
    """Make the trainer of a job.

    Raises:
        InputError: the student would be no smaller, or the teacher has another tokenizer.
    """
    recipe, wanted = job.recipe, job.recipe.distill
    student = load_base(recipe, job.base)
    teacher = _teacher(job)
    if wanted.keep_layers is not None:
        drop_layers(student, wanted.keep_layers)
    train = job.train
    if wanted.kind == "sequence":
        train = said_by(teacher, train, job.template, recipe.measure.answer_tokens)
    table = concatenate_datasets([train, job.held_out.select_columns(train.column_names)])
    capacity, packing = recipe.data.longest, recipe.train.packing
    rows = packed_rows(train["length"][:], capacity, packing=packing)
    held_out = packed_rows(job.held_out["length"][:], capacity, packing=packing, first=len(train))
    # Both take the examples' lengths, or neither does.
    by_example = attend_by_example(student) and attend_by_example(teacher)
    trainer = DistillingTrainer(
        model=student,
        args=SFTConfig(**job.arguments(len(rows)), dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=job.tokenizer,
        data_collator=Joiner(table, lengths=by_example),
        callbacks=list(job.callbacks),
    )
    trainer.taught_by = teacher
    if wanted.kind == "logits":
        trainer.teacher = teacher
    trainer.temperature, trainer.share = wanted.temperature, wanted.share
    return trainer


def drop_layers(model: "PreTrainedModel", keep: int) -> None:
    """Keep some layers of a model, evenly spaced, the first and the last among them.

    Args:
        model: changed in place.
        keep: how many layers stay.

    Raises:
        InputError: it has no more layers than that.
    """
    inner: Any = model.base_model
    layers, count = inner.layers, len(inner.layers)
    if not 1 <= keep < count:
        raise InputError(
            f"The student would keep {keep} of {count} layers; set distill.keep_layers to 1 to "
            f"{count - 1}."
        )
    chosen = [round(n * (count - 1) / max(1, keep - 1)) for n in range(keep)]
    inner.layers = torch.nn.ModuleList([layers[place] for place in chosen])
    for place, layer in enumerate(inner.layers):
        layer.self_attn.layer_idx = place
    model.config.num_hidden_layers = keep
    kinds = model.config.to_dict().get("layer_types")
    if kinds:
        model.config.layer_types = [kinds[place] for place in chosen]


def said_by(
    teacher: "PreTrainedModel", table: Dataset, template: ChatTemplate, most: int
) -> Dataset:
    """Put what the teacher says in place of each example's last answer.

    Args:
        teacher: who answers, greedily.
        table: examples.
        template: the models'.
        most: tokens of the longest answer.
    """
    prompts = [row["input_ids"][: last_answer(row["labels"])[0]] for row in table]
    answers = greedy_ids(teacher, template, prompts, most)
    rows = [
        {
            "input_ids": prompt + answer,
            "labels": [IGNORED] * len(prompt) + answer,
            "length": len(prompt) + len(answer),
        }
        for prompt, answer in zip(prompts, answers, strict=True)
        if answer
    ]
    features = table.select_columns(["input_ids", "labels", "length"]).features
    return Dataset.from_list(rows, features=features)


def _teacher(job: Job) -> "PreTrainedModel":
    wanted = job.recipe.distill
    if wanted.teacher is None and wanted.keep_layers is None:
        raise InputError("A teacher cannot teach itself; set distill.keep_layers or a teacher.")
    base = find_base(wanted.teacher) if wanted.teacher else job.base
    if base.template.tokenizer.vocabulary != job.template.tokenizer.vocabulary:
        raise InputError(
            f"The teacher {base.name} has another tokenizer than {job.base.name}, so their tokens "
            "cannot be compared; choose one of the same family."
        )
    return load_weights(base.checkpoint, device=training_device()).requires_grad_(False)
