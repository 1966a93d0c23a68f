"""`python -m finetune sft RECIPE.yaml` and its siblings."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from chatkit.errors import InputError
from chatkit.finetuning.recipe import Method
from finetune.quiet import quiet

METHODS: dict[Method, str] = {
    "sft": "Learn answers from examples.",
    "dpo": "Learn which of two answers is preferred (DPO, IPO, robust DPO).",
    "orpo": "Learn answers and preference at once, without a reference model.",
    "kto": "Learn from single thumbs up and down.",
    "reward": "Make a model that tells which of two answers is better.",
    "grpo": "Learn from a reward: a program's, or a reward model's (GRPO, RLOO).",
    "distill": "Teach a small student what its teacher says.",
}
RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE goes over the recipe, as in train.epochs=3."),
]


def train_command(method: Method) -> Callable[..., None]:
    """Make the command of a method."""

    def command(
        recipe: RecipePath,
        set_: Changes = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the last checkpoint.")
        ] = False,
    ) -> None:
        from chatkit.finetuning.recipe import read_recipe
        from chatkit.finetuning.run import run
        from chatkit.loading.waiting_threads import waiting_threads_sleep

        read = read_recipe(recipe, set_ or ())
        if read.method != method:
            raise InputError(
                f"{recipe} is a recipe for {read.method}; run `python -m finetune {read.method} "
                f"{recipe}`."
            )
        quiet()
        with waiting_threads_sleep():
            result = run(read, resume=resume, say=lambda line: typer.echo(line, err=True))
        if result.stopped_by:
            sys.exit(130)
        typer.echo(str(result.folder))

    command.__doc__ = f"""{METHODS[method]}

    Examples:

      python -m finetune {method} finetune/recipes/smollm2-{_example(method)}.yaml

      python -m finetune {method} recipe.yaml --set train.learning_rate=1e-4 --set output=out/two

      python -m finetune {method} recipe.yaml --resume
    """
    return command


def _example(method: Method) -> str:
    return "sft-lora" if method == "sft" else method
