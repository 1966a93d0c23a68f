"""Supervised fine-tuning: TRL's trainer on our masks, without padding and without unused logits."""

from typing import Any

import torch
from datasets import concatenate_datasets
from trl import SFTConfig, SFTTrainer

from chatkit.finetuning.training.attention import attend_by_example
from chatkit.finetuning.training.job import Job
from chatkit.finetuning.training.losses import Needed, needed_logits, negative_log_likelihood
from chatkit.finetuning.training.rows import Joiner, packed_rows
from chatkit.finetuning.training.watched import Watched
from chatkit.finetuning.training.weights import load_base


class SupervisedTrainer(Watched, SFTTrainer):
    """TRL's trainer, whose loss comes from the trained tokens' logits alone."""

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Give the mean surprise of the trained tokens of a whole step, in nats."""
        needed = needed_logits(model, inputs)
        nats = negative_log_likelihood(needed, spend=not return_outputs)
        loss = self.per_token(nats, needed, num_items_in_batch)
        return (loss, {"logits": needed.logits}) if return_outputs else loss

    def per_token(self, nats: torch.Tensor, needed: Needed, items: Any) -> torch.Tensor:
        """Divide what a micro-batch adds up to by the trained tokens of the whole step.

        Args:
            nats: of the micro-batch.
            needed: its logits and targets.
            items: trained tokens of the step on all devices; None outside of a step.
        """
        if items is None:
            return nats / len(needed.targets)
        # Devices' gradients are averaged, and this is their sum's part.
        together = self.args.average_tokens_across_devices
        mean: torch.Tensor = nats / items * (self.accelerator.num_processes if together else 1)
        return mean

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the mean surprise per trained token of the held-out rows, in nats."""
        loader = self.get_eval_dataloader(eval_dataset)
        surprise = torch.zeros(2, dtype=torch.float64)
        self.model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for inputs in loader:
                needed = needed_logits(self.model, self._prepare_inputs(inputs))
                nats = float(negative_log_likelihood(needed))
                surprise += torch.tensor([nats, len(needed.targets)], dtype=torch.float64)
        self.model.train()
        device = self.accelerator.device
        # Some devices have no numbers of 64 bits; what is added up is not much.
        summed = self.accelerator.reduce(surprise.float().to(device), reduction="sum")
        metrics = {f"{metric_key_prefix}_loss": float(summed[0] / summed[1])}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def supervised_trainer(job: Job) -> SupervisedTrainer:
    """Make the trainer of a job."""
    recipe, table = job.recipe, concatenate_datasets([job.train, job.held_out])
    capacity, packing = recipe.data.longest, recipe.train.packing
    train = packed_rows(job.train["length"][:], capacity, packing=packing)
    held_out = packed_rows(
        job.held_out["length"][:], capacity, packing=packing, first=len(job.train)
    )
    model = load_base(recipe, job.base)
    by_example = attend_by_example(model)
    return SupervisedTrainer(
        model=model,
        args=SFTConfig(**job.arguments(len(train)), dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=job.tokenizer,
        data_collator=Joiner(table, lengths=by_example),
        peft_config=job.lora(),
        callbacks=job.callbacks,
    )
