"""What one does with a result: merge, export, verify, and ask whose data is in it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from chatkit.errors import InputError
from finetune.quiet import quiet

AdapterFolder = Annotated[Path, typer.Argument(help="The folder of a result.")]


def merge(
    adapter: AdapterFolder,
    out: Annotated[Path, typer.Option("--out", help="An empty folder for the checkpoint.")],
) -> None:
    """Merge an adapter into its base: one checkpoint for TGI, vLLM and transformers.

    Examples:

      python -m finetune merge out/json-answers --out out/json-answers-merged
    """
    from chatkit.finetuning.merging import merge as merged

    quiet()
    typer.echo(str(merged(adapter, out)))


def export(
    adapter: AdapterFolder,
    out: Annotated[Path, typer.Option("--out", help="An empty folder for the files.")],
    precision: Annotated[
        list[str] | None, typer.Option(help="f16, q8_0 or q4; may be repeated.")
    ] = None,
) -> None:
    """Write GGUF files for the embedded engine, and a Modelfile for Ollama.

    Examples:

      python -m finetune export out/json-answers --out out/gguf --precision f16 --precision q4
    """
    from chatkit.finetuning.merging import export as exported

    quiet()
    files = exported(adapter, out, tuple(precision or ("f16",)))
    for path in (files.adapter, *files.merged.values(), files.modelfile):
        typer.echo(str(path))


def verify(
    adapter: AdapterFolder,
    most_logits: Annotated[float, typer.Option(help="Largest difference of logits.")] = 1e-3,
    most_gap: Annotated[float, typer.Option(help="Largest gap at a split, in nats.")] = 0.5,
    precision: Annotated[
        list[str] | None, typer.Option(help="f16, q8_0 or q4 of the merged GGUF; repeatable.")
    ] = None,
) -> None:
    """Hold the merged model and GGUF files against the adapter; exit 1 when one parts too far.

    Examples:

      python -m finetune verify out/json-answers
    """
    from chatkit.finetuning.verifying import verify as verified

    quiet()
    storages = tuple(precision or ("f16", "q8_0"))
    found = verified(adapter, most_logits=most_logits, most_gap=most_gap, storages=storages)
    for one in found:
        told = f"{one.form}: {one.equal} of {one.asked} greedy texts equal"
        if one.logits is not None:
            told += f", logits differ by at most {one.logits:.2g}"
        if one.partings:
            told += ", gaps " + ", ".join(f"{parting.gap:.3f}" for parting in one.partings)
        typer.echo(f"{told}: {'passes' if one.passes else 'FAILS'}")
    if not all(one.passes for one in found):
        sys.exit(1)


def who(
    folder: Annotated[Path, typer.Argument(help="Searched with everything in it.")],
    user: Annotated[str | None, typer.Option(help="Whose rows.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Its rows.")] = None,
) -> None:
    """Name the results that were trained on a user's or a conversation's rows.

    Examples:

      python -m finetune who out --user ada
    """
    from chatkit.finetuning.lineage import adapters_that_saw

    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; check the path.")
    for path in adapters_that_saw(folder, user=user, conversation=conversation):
        typer.echo(str(path))
