"""`python -m finetune plan`: what a run will take, before anything loads."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.train_commands import Changes, RecipePath

if TYPE_CHECKING:
    from rich.table import Table

    from chatkit.finetuning.planning import Plan


def plan(
    recipe: RecipePath,
    set_: Changes = None,
    hardware: Annotated[
        str | None, typer.Option(help="24GB, 80GB or 2x80GB; this machine without it.")
    ] = None,
) -> None:
    """Tell examples, tokens, steps, memory and time; exit 1 when it does not fit.

    Examples:

      python -m finetune plan recipe.yaml

      python -m finetune plan finetune/recipes/llama2-7b-qlora.yaml --hardware 24GB
    """
    from rich.console import Console

    from chatkit.finetuning.planning import plan as planned
    from chatkit.finetuning.recipe import read_recipe
    from chatkit.hardware import named_hardware

    found = planned(read_recipe(recipe, set_ or ()), named_hardware(hardware) if hardware else None)
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    for line in _lines(found):
        console.print(line)
    console.print(_table(found))
    if found.advice:
        console.print(f"It does not fit: {found.advice}.")
        sys.exit(1)


def _lines(plan: "Plan") -> list[str]:
    counted, recipe = plan.counted, plan.recipe
    about = "about " if counted.estimated else ""
    lines = [
        f"Base: {recipe.base}, {recipe.method}, on {plan.hardware}",
        f"Data: {about}{counted.rows:,} rows, {about}{counted.tokens:,} tokens, "
        f"{counted.trained_share:.0%} of them trained"
        + (" (estimated: the base's tokenizer is not here)" if counted.estimated else ""),
    ]
    if plan.steps:
        steps = plan.steps
        again = "with" if steps.checkpointing else "without"
        lines.append(
            f"Steps: {plan.total:,} of {recipe.train.batch} rows: {steps.micro_batch} at once, "
            f"{steps.accumulation} times, {again} gradient checkpointing"
        )
    if plan.seconds is not None:
        lines.append(f"Time: about {_duration(plan.seconds)}")
    return lines


def _table(plan: "Plan") -> "Table":
    from rich.table import Table

    from chatkit.hardware import memory_text

    names = ("weights", "adapter", "gradients", "optimiser", "activations", "overhead", "total")
    table = Table(box=None, pad_edge=False)
    table.add_column("memory")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("")
    for choice in plan.choices:
        parts = [memory_text(getattr(choice.needed, name)) for name in names]
        table.add_row(choice.method, *parts, "fits" if choice.devices else "does not fit")
    return table


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
