"""Brings a result to where it serves: merged weights, GGUF files, an Ollama Modelfile."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from chatkit.adapters.gguf import adapter_for_llamacpp, write_merged
from chatkit.adapters.reading import Adapter, check_adapter, read_adapter
from chatkit.errors import InputError, Unsupported
from chatkit.finetuning.lineage import FILE
from chatkit.loading.bases import Base, checksum_of, find_base
from chatkit.loading.folder import folder_named
from chatkit.loading.gguf import Storage
from chatkit.loading.quiet import quiet_libraries
from chatkit.template import ChatTemplate

STORAGES: dict[str, Storage] = {"f16": "f16", "q8_0": "q8_0", "q4": "q4_1"}


class Exported(NamedTuple):
    """Files for the embedded engine and for Ollama.

    Args:
        adapter: the adapter alone.
        merged: the whole model, by precision.
        modelfile: tells Ollama how to run it.
    """

    adapter: Path
    merged: dict[str, Path]
    modelfile: Path


def merge(folder: Path, output: Path) -> Path:
    """Merge an adapter into its base, as a checkpoint that TGI, vLLM and transformers read.

    Args:
        folder: of the adapter.
        output: an empty folder, or none yet.

    Raises:
        InputError: the output folder is not empty.
        ModelFileError: the adapter is broken, or of another base.
    """
    from peft import PeftModel
    from transformers import AutoTokenizer

    from chatkit.engines.weights import load_weights

    adapter, base, template = opened(folder)
    _empty(output)
    with quiet_libraries():
        model = load_weights(base.checkpoint, device="cpu")
        merged = PeftModel.from_pretrained(model, folder).merge_and_unload()
        merged.save_pretrained(output)
        tokenizer = AutoTokenizer.from_pretrained(base.tokenizer)
        tokenizer.chat_template = template.source
        # TGI's router reads the template from the tokenizer's configuration only.
        tokenizer.save_pretrained(output, save_jinja_files=False)
    drawn = base.checkpoint / "generation_config.json"
    if drawn.exists():
        shutil.copyfile(drawn, output / drawn.name)
    _note(adapter, output)
    return output


def export(folder: Path, output: Path, storages: tuple[str, ...] = ("f16",)) -> Exported:
    """Write an adapter for the embedded engine, alone and merged, and a Modelfile for Ollama.

    Args:
        folder: of the adapter.
        output: an empty folder, or none yet.
        storages: `f16`, `q8_0` and `q4`.

    Raises:
        InputError: the output folder is not empty, or a precision is unknown.
        Unsupported: there is no GGUF file of the base, or the adapter is more than LoRA.
        ModelFileError: the adapter is broken, or of another base.
    """
    if unknown := set(storages) - set(STORAGES):
        raise InputError(
            f"The precision {sorted(unknown)[0]!r} is unknown; use {', '.join(STORAGES)}."
        )
    adapter, base, template = opened(folder)
    gguf = _gguf_of(base)
    _empty(output)
    output.mkdir(parents=True, exist_ok=True)
    alone = output / "adapter.gguf"
    shutil.copyfile(adapter_for_llamacpp(adapter, gguf), alone)
    merged = {name: output / f"model.{name}.gguf" for name in storages}
    for name, path in merged.items():
        write_merged(adapter, gguf, path, STORAGES[name])
    modelfile = output / "Modelfile"
    smallest = next(reversed(merged.values()), alone)
    modelfile.write_text(_modelfile(smallest.name, base, template), "utf-8")
    _note(adapter, output)
    return Exported(alone, merged, modelfile)


def opened(folder: Path) -> tuple[Adapter, Base, ChatTemplate]:
    """Read an adapter, and find the base that it belongs to.

    Raises:
        ModelFileError: it is broken, or was trained on another base.
        UnknownModel, NotPulled: its base is not here.
    """
    adapter = read_adapter(folder)
    base = find_base(adapter.base)
    template = base.template
    check_adapter(adapter, base.name, str(template.identity), checksum_of(base.checkpoint))
    return adapter, base, template


def _gguf_of(base: Base) -> Path:
    """Find the GGUF file of a base, that of 16 bits where there are several."""
    if base.entry is not None:
        folder = folder_named(base.entry.name)
        for path in (folder.gguf_of("f16"), folder.gguf_of("bf16")):
            if path.exists():
                return path
        if folder.serves("llamacpp"):
            return folder.gguf
    raise Unsupported(
        f"There is no GGUF file of {base.name} here to write the adapter into; pull an entry with "
        "the embedded engine, or convert the merged checkpoint with llama.cpp's own script."
    )


def _empty(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"The folder {output} is not empty; choose another one.")


def _note(adapter: Adapter, output: Path) -> None:
    """Carry the lineage over, with where it came from."""
    path = adapter.folder / FILE
    lineage = json.loads(path.read_text("utf-8")) if path.exists() else {}
    lineage["made_from"] = str(adapter.folder.resolve())
    (output / FILE).write_text(json.dumps(lineage, indent=2) + "\n", "utf-8")


def _modelfile(gguf: str, base: Base, template: ChatTemplate) -> str:
    """Write what Ollama needs (https://docs.ollama.com/modelfile): the file and where turns end.

    Ollama reads the chat template from the GGUF file itself.
    """
    ends = [template.tokenizer.eos] if template.tokenizer.eos else []
    lines = [f"FROM ./{gguf}", *(f'PARAMETER stop "{end}"' for end in ends)]
    if base.entry:
        drawn = base.entry.sampling.model_dump(exclude_none=True)
        known = ("temperature", "top_p", "top_k", "min_p")
        lines += [f"PARAMETER {name} {drawn[name]}" for name in known if name in drawn]
    return "\n".join(lines) + "\n"
