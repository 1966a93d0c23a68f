"""`python -m eval drift`: what quantisation changes, and a gate on it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from chatkit.errors import InputError

PROMPTS = (
    "What is a tide?",
    "Name three fruits.",
    "Write a Python function that doubles a number.",
    "Explain how bread rises.",
)


def drift(
    model: Annotated[str, typer.Option(help="The quantised model.")],
    against: Annotated[str, typer.Option(help="The same in its reference precision.")],
    prompts: Annotated[
        Path | None, typer.Option(help="Your own prompts, one to a line; a few come along.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Of each answer, at most.")] = 24,
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="The least share of tokens that must agree.")
    ] = 0.9,
    divergence: Annotated[
        float, typer.Option(min=0, help="The most nats that they may be apart.")
    ] = 0.1,
) -> None:
    """Compare a quantised model with its reference along the reference's answers.

    Exit 0 when it is near enough, 1 when it is not. The catalogue shows what was found.

    Examples:

      python -m eval drift --model smollm2-135m-q4 --against smollm2-135m --prompts mine.txt
    """
    from chatkit.background import wait_for
    from chatkit.engines.opening import open_engine
    from chatkit.evaluation.measured import MeasuredDrift, note_drift
    from chatkit.evaluation.quantisation import measure_drift

    asked = list(PROMPTS) if prompts is None else _lines(prompts)
    reference, engine = open_engine(against), open_engine(model)
    try:
        found = wait_for(measure_drift(reference, engine, asked, tokens=tokens))
    finally:
        wait_for(engine.close())
        wait_for(reference.close())
    today = datetime.now(UTC).date().isoformat()
    figures = (len(asked), found.steps, found.agreement, found.divergence, today)
    kept = note_drift(MeasuredDrift(model, against, *figures))
    near = found.agreement >= agreement and found.divergence <= divergence
    typer.echo(
        f"{'Near enough' if near else 'Too far'}: {found.agreement:.1%} of {found.steps} tokens "
        f"agree (at least {agreement:.1%}), divergence {found.divergence:.4f} nat (at most "
        f"{divergence:g}), {found.worst:.3f} at worst."
    )
    if found.perplexities is not None:
        reference_sees, model_sees = found.perplexities
        typer.echo(
            f"Perplexity of the reference's answers: {reference_sees:.3f} in its own eyes, "
            f"{model_sees:.3f} in the other's."
        )
    if kept:
        typer.echo("Kept for `python -m chatkit models`.")
    sys.exit(0 if near else 1)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The prompts {path} cannot be read ({error}); check the path.") from None
    return [line for line in lines if line]
