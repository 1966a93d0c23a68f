"""`python -m eval speed`: how fast models answer, and what a token costs."""

from typing import Annotated

import typer

from chatkit.errors import InputError


def speed(
    model: Annotated[list[str], typer.Option("--model", help="Who answers; several, in turn.")],
    streams: Annotated[str, typer.Option(help="Answers at once, as in 1,4,16.")] = "1,4",
    tokens: Annotated[int, typer.Option(min=2, help="Of each answer, at most.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="How often each stream asks.")] = 3,
    price: Annotated[float | None, typer.Option(min=0, help="Of the machine, for an hour.")] = None,
) -> None:
    """Measure first token, time between tokens, tokens a second, memory, energy and cost.

    Examples:

      python -m eval speed --model smollm2-135m --streams 1,4,16

      python -m eval speed --model tgi:http://localhost:8080 --streams 1,8 --price 2.5
    """
    from chatkit.background import wait_for
    from chatkit.engines.opening import MANY, open_engine
    from chatkit.evaluation.speed import measure_speed

    try:
        counts = [int(count) for count in streams.split(",")]
    except ValueError:
        raise InputError(f"The streams are {streams!r}; write numbers, as in 1,4,16.") from None
    head = "| model | streams | first token | between tokens | tokens/s | memory |"
    typer.echo(head + (" per million |" if price is not None else "") + " J/token |")
    typer.echo("|---" * (7 + (price is not None)) + "|")
    for name in model:
        engine = open_engine(name, MANY)
        try:
            measured = wait_for(measure_speed(name, engine, counts, tokens=tokens, rounds=rounds))
        finally:
            wait_for(engine.close())
        for one in measured:
            cells = [
                one.model,
                str(one.streams),
                f"{one.first_token_seconds:.3f} s",
                f"{1000 * one.between_tokens_seconds:.1f} ms",
                f"{one.tokens_per_second:.0f}",
                f"{one.memory / 1e6:.0f} MB",
            ]
            if price is not None:
                cells.append(f"{one.cost(price):.2f}")
            energy = one.joules_per_token
            cells.append("not told" if energy is None else f"{energy:.2f}")
            typer.echo("| " + " | ".join(cells) + " |")
