"""Checkpoints for transformers, and tokenizer files in the one form that chatkit reads."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from chatkit.errors import ModelFileError
from chatkit.loading.quiet import quiet_libraries
from chatkit.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from transformers.utils.quantization_config import QuantizationConfigMixin


def write_checkpoint(gguf: Path, tokenizer: Path, target: Path) -> None:
    """Write a GGUF's weights as a 16-bit safetensors checkpoint that any tool of the field reads.

    The tokenizer is ours: the one that transformers builds from a GGUF can have another end
    token.

    Args:
        gguf: the model file.
        tokenizer: the folder with its tokenizer files.
        target: the folder to make.

    Raises:
        ModelFileError: transformers does not know the architecture, or the file is corrupt.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        # Unpacking draws a bar that cannot be turned off, across the one that the person watches.
        with quiet_libraries(), contextlib.redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.float16,
                quantization_config=_unpacked(),
            )
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise ModelFileError(
            f"transformers cannot read {gguf.name} ({error}); use the embedded engine, or pull "
            "the model's hub checkpoint."
        ) from error
    control = read_tokenizer(tokenizer)
    ends = {"bos_token_id": control.bos, "eos_token_id": control.eos}
    for name, text in ends.items():
        index = control.control[text].id if text else None
        setattr(model.config, name, index)
        setattr(model.generation_config, name, index)
    with quiet_libraries():
        model.save_pretrained(target)
    _name_rotary_base_twice(target / "config.json")
    for path in tokenizer.iterdir():
        shutil.copyfile(path, target / path.name)


def _name_rotary_base_twice(config: Path) -> None:
    """Say how positions turn in the words of transformers 4 too, beside those of version 5.

    Version 4 does not know the new words, and would silently take another base.
    """
    values = json.loads(config.read_text("utf-8"))
    rotary = dict(values.get("rope_parameters") or {})
    if "rope_theta" in rotary:
        values["rope_theta"] = rotary.pop("rope_theta")
        values["rope_scaling"] = rotary if rotary.get("rope_type") != "default" else None
        config.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _unpacked() -> "QuantizationConfigMixin | None":
    """Ask transformers 5 for plain weights, which it can save; version 4 has no others."""
    try:
        from transformers import GgufConfig  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return None
    unpacked: QuantizationConfigMixin = GgufConfig(dequantize=True)
    return unpacked


def complete_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` where a checkpoint has only an older form of it.

    Raises:
        ModelFileError: the tokenizer files cannot be read.
    """
    if (folder / "tokenizer.json").exists():
        return
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    except (ValueError, OSError, AttributeError) as error:
        raise ModelFileError(
            f"The tokenizer in {folder} cannot be read ({error}); choose another repository of "
            "the model."
        ) from error
    if not (folder / "tokenizer_config.json").exists():
        tokenizer.save_pretrained(folder)
