"""A recipe: everything that decides how a model is tuned, in one YAML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from chatkit.errors import InputError
from chatkit.yaml_options import Count, Options, Text, read_yaml

Method = Literal["sft", "dpo", "orpo", "kto", "reward", "grpo", "distill"]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
HINT = "`method:`, `base:` and `data:`"


class Source(Options):
    """Where rows come from.

    Args:
        path: a file (.jsonl, .json, .csv, .parquet), a folder of such files, `hub:OWNER/NAME`, or
            `conversations:` for our own store (`conversations:USER` for one user's).
        weight: how often its rows are taken beside those of the other sources.
        split: the split of a hub dataset.
    """

    title = "a source of data"

    path: Text
    weight: Positive = 1.0
    split: Text = "train"


class DataOptions(Options):
    """What is trained on.

    Args:
        train: where rows come from; a path alone is a source too.
        held_out: the share of conversations and users that is kept for measuring, or sources of
            their own.
        longest: the most tokens of an example.
        too_long: whether a longer example is dropped, or loses its oldest turns.
        duplicates: `near` drops rows that differ in a few words only, `exact` the very same,
            `keep` none.
        token_budget: stop after so many tokens; None takes all.
        bad_rows: whether a row that cannot be used stops the run, or is skipped and reported.
        consent: all users of the store agreed that their conversations are trained on; else only
            those are taken whose preferences say so.
    """

    title = "data"

    train: Annotated[tuple[Source, ...], Field(min_length=1)]
    held_out: Annotated[float, Field(gt=0, lt=1)] | tuple[Source, ...] = 0.1
    longest: Annotated[int, Field(ge=8)] = 1024
    too_long: Literal["drop", "cut"] = "drop"
    duplicates: Literal["near", "exact", "keep"] = "exact"
    token_budget: Count | None = None
    bad_rows: Literal["stop", "skip"] = "stop"
    consent: bool = False

    @field_validator("train", "held_out", mode="before")
    @classmethod
    def _as_sources(cls, value: Any) -> Any:
        if isinstance(value, str | dict):
            value = [value]
        if not isinstance(value, list | tuple):
            return value
        return tuple({"path": one} if isinstance(one, str) else one for one in value)


class AdapterOptions(Options):
    """What is trained.

    Args:
        kind: LoRA (Hu 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu 2024), or all weights.
        rank: the rank of the matrices.
        alpha: their scale; twice the rank when None.
        dropout: of their input.
        targets: the layers that get one; None takes the catalogue's, else all linear ones.
    """

    title = "adapter"

    kind: Literal["lora", "rslora", "dora", "full"] = "lora"
    rank: Count = 16
    alpha: Positive | None = None
    dropout: Share = 0.0
    targets: tuple[Text, ...] | None = None


class TrainOptions(Options):
    """How it is trained.

    Args:
        epochs: how often each row is seen.
        steps: how many steps, in place of epochs.
        learning_rate: its highest value.
        schedule: how it falls.
        warmup: the share of steps in which it rises.
        weight_decay: AdamW's.
        clip: the largest norm of a gradient.
        batch: rows per step on all devices together; with packing a row holds several examples.
        micro_batch: rows computed at once on a device; `auto` takes what the plan says.
        packing: whether examples share rows of `data.longest` tokens, each seeing itself only.
        checkpointing: whether activations are computed again; `auto` when memory asks for it.
        precision: of the computation; `auto` is bf16 where the device has it.
        neftune: the noise on embeddings (Jain 2023); None for none.
        seed: of everything that is drawn.
        save_steps: how often a checkpoint is written; None writes one per epoch.
        keep: how many checkpoints stay.
        report_to: where figures go beside the output folder.
    """

    title = "train"

    epochs: Positive = 2.0
    steps: Count | None = None
    learning_rate: Positive = 2e-4
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup: Share = 0.03
    weight_decay: NotNegative = 0.0
    clip: Positive = 1.0
    batch: Count = 8
    micro_batch: Count | Literal["auto"] = "auto"
    packing: bool = True
    checkpointing: bool | Literal["auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    neftune: Positive | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    save_steps: Count | None = None
    keep: Count = 2
    report_to: tuple[Literal["tensorboard", "trackio", "mlflow", "wandb"], ...] = ()


class MeasureOptions(Options):
    """What is measured on the way.

    Args:
        every: after how many steps held-out rows are measured and questions asked; None does so
            once per epoch.
        rows: how many held-out rows at most.
        questions: what the model is asked; None takes the first held-out ones.
        scorer: how its answers are scored, see `chatkit.scorers`; None shows them only.
        answer_tokens: the longest answer.
        patience: stop when held-out loss has not fallen for so many measurements, and keep the
            best weights; None never.
        unrelated: examples of what must not change; their perplexity is told before and after.
    """

    title = "measure"

    every: Count | None = None
    rows: Count = 200
    questions: tuple[Text, ...] | int = 3
    scorer: dict[str, Any] | None = None
    answer_tokens: Count = 64
    patience: Count | None = None
    unrelated: Source | None = None

    @field_validator("unrelated", mode="before")
    @classmethod
    def _as_source(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class PreferenceOptions(Options):
    """DPO (Rafailov 2023), ORPO (Hong 2024) and KTO (Ethayarajh 2024).

    Args:
        loss: DPO's: sigmoid, IPO (Azar 2023), or robust to wrong labels (Chowdhury 2024).
        beta: how dear it is to leave the base; ORPO's weight of the odds ratio.
        wrong_labels: the share of pairs that may be the wrong way round, for `robust`.
        liked_weight: KTO's weight of liked answers; None balances it with the disliked.
        disliked_weight: KTO's weight of disliked answers; None balances it.
    """

    title = "preference"

    loss: Literal["sigmoid", "ipo", "robust"] = "sigmoid"
    beta: Positive = 0.1
    wrong_labels: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    liked_weight: Positive | None = None
    disliked_weight: Positive | None = None


class ReinforceOptions(Options):
    """GRPO (Shao 2024) and RLOO (Ahmadian 2024).

    Args:
        algorithm: which of the two.
        reward: a scorer, see `chatkit.scorers`; or
        reward_model: the folder of a reward model that `finetune reward` left.
        answers: how many answers are drawn to each question.
        answer_tokens: the longest answer.
        temperature: of the drawing.
        beta: the weight of the distance to the base.
    """

    title = "reinforce"

    algorithm: Literal["grpo", "rloo"] = "grpo"
    reward: dict[str, Any] | None = None
    reward_model: Text | None = None
    answers: Annotated[int, Field(ge=2)] = 4
    answer_tokens: Count = 48
    temperature: Positive = 1.0
    beta: NotNegative = 0.0

    @model_validator(mode="after")
    def _one_reward(self) -> Self:
        if (self.reward is None) == (self.reward_model is None):
            raise InputError("Reinforce needs a reward or a reward_model, and not both; give one.")
        return self


class DistillOptions(Options):
    """A small student learns from its teacher (Hinton 2015; sequences: Kim and Rush 2016).

    Args:
        keep_layers: how many of the base's layers the student keeps, evenly spaced; the base is
            the teacher then.
        teacher: another model as teacher, with the same tokenizer; None for the base.
        kind: learn the teacher's probabilities, or the answers that it writes.
        temperature: how flat the probabilities are made.
        share: the weight of the teacher beside the data's own answers.
    """

    title = "distill"

    keep_layers: Count | None = None
    teacher: Text | None = None
    kind: Literal["logits", "sequence"] = "logits"
    temperature: Positive = 1.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.5


class Recipe(Options):
    """All of it.

    Args:
        method: what is done.
        base: the model that is tuned, by any name of a checkpoint.
        quantize: 4-bit (QLoRA, Dettmers 2023) or 8-bit weights below the adapter.
        output: the folder of what comes of it.
        data: what is trained on.
        adapter: what is trained.
        train: how.
        measure: what is measured on the way.
        preference: for dpo, orpo and kto.
        reinforce: for grpo.
        distill: for distill.
    """

    title = "the recipe"

    method: Method
    base: Text
    output: Text
    data: DataOptions
    quantize: Literal["int4", "int8"] | None = None
    adapter: AdapterOptions = AdapterOptions()
    train: TrainOptions = TrainOptions()
    measure: MeasureOptions = MeasureOptions()
    preference: PreferenceOptions = PreferenceOptions()
    reinforce: ReinforceOptions | None = None
    distill: DistillOptions = DistillOptions()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.quantize and self.adapter.kind == "full":
            raise InputError(
                "Quantised weights cannot be trained themselves; leave quantize out, or choose an "
                "adapter kind such as lora."
            )
        if self.method == "grpo":
            if self.reinforce is None:
                raise InputError("The recipe has no reinforce; add it with a reward.")
            if self.train.batch % self.reinforce.answers:
                raise InputError(
                    f"A step of {self.train.batch} rows is not a whole number of groups of "
                    f"{self.reinforce.answers} answers; set train.batch to a multiple of it."
                )
        if self.method == "distill" and self.adapter.kind != "full":
            raise InputError("A student is trained whole; set adapter.kind to full.")
        return self

    @property
    def folder(self) -> Path:
        """The folder of what comes of it."""
        return Path(self.output)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; relative paths in it count from the present folder.

    Args:
        path: the YAML file.
        changes: `train.learning_rate=1e-4` and the like, which go over what the file says.

    Raises:
        InputError: the file cannot be read, or an option is unknown or out of range.
    """
    said = read_yaml(path, HINT)
    for change in changes:
        _put(said, change)
    try:
        return Recipe.model_validate(said)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_recipe(recipe: Recipe) -> str:
    """Write a recipe with every default in it, as `read_recipe` reads it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _put(said: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise InputError(f"The change {change!r} sets nothing; write it like train.epochs=3.")
    *parts, last = name.split(".")
    place = said
    for part in parts:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise InputError(f"The change {change!r} goes into {part}, which holds no options.")
    place[last] = _value(text)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
