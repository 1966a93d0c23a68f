"""What one does with a result: merge, export, verify, and ask whose data is in it."""

from pathlib import Path
from typing import Annotated

import typer

from chatkit.errors import InputError


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
