"""`python -m finetune preview`: the mask proof, as coloured text."""

import sys
from typing import Annotated

import typer

from finetune.train_commands import Changes, RecipePath


def preview(
    recipe: RecipePath,
    set_: Changes = None,
    n: Annotated[int, typer.Option("--n", min=0, help="How many examples are shown.")] = 5,
) -> None:
    """Show what is trained, token by token; exit 1 when it is not the answers and nothing else.

    Examples:

      python -m finetune preview recipe.yaml

      python -m finetune preview recipe.yaml --n 20 --set data.bad_rows=skip
    """
    from rich.console import Console
    from rich.text import Text

    from chatkit.finetuning.preview import preview as shown
    from chatkit.finetuning.recipe import read_recipe

    found = shown(read_recipe(recipe, set_ or ()), n)
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    for example in found.examples:
        console.rule(f"{example.origin}", align="left")
        text = Text()
        for piece in example.pieces:
            marked = piece.trained and not console.is_terminal
            shown_text = f"⟦{piece.text}⟧" if marked else piece.text
            text.append(shown_text, style="bold black on green" if piece.trained else "dim")
        console.print(text)
    for line in found.summary():
        console.print(line)
    for problem in found.problems[:10]:
        console.print(f"wrong: {problem}", style="red")
    if found.problems or found.refused_stops:
        sys.exit(1)
