"""`python -m eval harness`: the field's benchmarks."""

from pathlib import Path
from typing import Annotated

import typer


def harness(
    tasks: Annotated[list[str], typer.Argument(help="Names of lm-eval's tasks.")],
    model: Annotated[str, typer.Option(help="Who is asked.")],
    include: Annotated[Path | None, typer.Option(help="A folder with tasks of your own.")] = None,
    fewshot: Annotated[int | None, typer.Option(min=0, help="Examples before each.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Questions of each task.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the chat template.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write all results as JSON.")] = None,
) -> None:
    """Run lm-eval's tasks with our engines behind them; the numbers are its own backend's.

    Examples:

      python -m eval harness hellaswag --model smollm2-135m@transformers --limit 100
    """
    import json
    from importlib.util import find_spec

    from chatkit.background import wait_for
    from chatkit.engines.opening import MANY, open_engine
    from chatkit.errors import MissingExtra

    if find_spec("lm_eval") is None:
        raise MissingExtra("This needs lm-eval; run `pip install 'chatkit-lab[eval]'`.")
    from chatkit.evaluation.harness import run_tasks

    engine = open_engine(model, MANY)
    try:
        found = run_tasks(engine, tasks, include=include, fewshot=fewshot, limit=limit, chat=chat)
    finally:
        wait_for(engine.close())
    for task, figures in found["results"].items():
        for name, value in figures.items():
            if isinstance(value, float) and "stderr" not in name:
                typer.echo(f"{task} {name.split(',')[0]}: {value:.4f}")
    if out is not None:
        out.write_text(json.dumps(found, indent=2, default=str) + "\n", "utf-8")
