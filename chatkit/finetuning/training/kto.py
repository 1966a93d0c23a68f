"""Kahneman-Tversky optimisation: TRL's trainer on our token ids and thumbs."""

from itertools import chain
from typing import TYPE_CHECKING, Any

from trl import KTOConfig, KTOTrainer

from chatkit.errors import InputError
from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.watched import Watched
from chatkit.finetuning.training.weights import load_base

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ["prompt_ids", "completion_ids", "label"]


class ThumbTrainer(Watched, KTOTrainer):
    """TRL's trainer, which is given token ids."""

    def _prepare_dataset(
        self, dataset: "Dataset", processing_class: Any, args: KTOConfig, dataset_name: str
    ) -> "Dataset":
        """Give each row another's answer beside its own, by which the distance is estimated."""
        rows = dataset.select_columns(COLUMNS)
        answers = rows["completion_ids"][:]
        size = args.per_device_train_batch_size
        groups = (answers[start : start + size] for start in range(0, len(answers), size))
        turned = list(chain.from_iterable([group[-1], *group[:-1]] for group in groups))
        return rows.add_column("KL_completion_ids", turned)


def thumb_trainer(job: Job) -> ThumbTrainer:
    """Make the trainer of a job.

    Raises:
        InputError: all thumbs point the same way, or rows go one by one.
    """
    recipe, lora = job.recipe, job.lora()
    liked = sum(job.train["label"])
    disliked = len(job.train) - liked
    if not liked or not disliked:
        raise InputError(
            f"KTO learns from thumbs of both kinds, and {liked} are up and {disliked} down; add "
            "the other kind."
        )
    if job.steps.micro_batch < 2:
        raise InputError(
            "KTO compares the rows that are computed at once, and only one is; set "
            "train.micro_batch to 2 or more."
        )
    wanted = recipe.preference
    arguments = KTOConfig(
        **job.arguments(len(job.train)),
        beta=wanted.beta,
        desirable_weight=wanted.liked_weight or max(1.0, disliked / liked),
        undesirable_weight=wanted.disliked_weight or max(1.0, liked / disliked),
        max_length=None,
    )
    return ThumbTrainer(
        model=load_base(recipe, job.base),
        ref_model=None if lora else load_base(recipe, job.base).eval(),
        args=arguments,
        # In the order that they have, TRL goes through them.
        train_dataset=job.train.shuffle(seed=recipe.train.seed),
        eval_dataset=job.held_out,
        processing_class=job.tokenizer,
        peft_config=lora,
        callbacks=job.callbacks,
    )
