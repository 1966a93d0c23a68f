"""Direct preference optimisation: TRL's trainer on our token ids."""

from typing import TYPE_CHECKING, Any

from trl import DPOConfig, DPOTrainer

from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.watched import Watched
from chatkit.finetuning.training.weights import load_base

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ["prompt_ids", "chosen_ids", "rejected_ids"]


class PreferenceTrainer(Watched, DPOTrainer):
    """TRL's trainer, which is given token ids."""

    def _prepare_dataset(self, dataset: "Dataset", *more: Any) -> "Dataset":
        return dataset.select_columns(COLUMNS)


def preference_trainer(job: Job) -> PreferenceTrainer:
    """Make the trainer of a job."""
    recipe, wanted = job.recipe, job.recipe.preference
    lora = job.lora()
    arguments = DPOConfig(
        **job.arguments(len(job.train)),
        loss_type=[wanted.loss],
        beta=wanted.beta,
        label_smoothing=wanted.wrong_labels,
        max_length=None,
    )
    return PreferenceTrainer(
        model=load_base(recipe, job.base),
        # An adapter that is switched off is the reference already.
        ref_model=None if lora else load_base(recipe, job.base).eval(),
        args=arguments,
        train_dataset=job.train,
        eval_dataset=job.held_out,
        processing_class=job.tokenizer,
        peft_config=lora,
        callbacks=job.callbacks,
    )
