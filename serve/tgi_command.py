"""`python -m serve tgi-command`: the exact line that starts a model in TGI's container."""

import shlex
from typing import Annotated

import typer

from chatkit.errors import InputError

FORMATS = ("run", "env")


def tgi_command(
    model: Annotated[str, typer.Option(help="A catalogue name; see python -m chatkit models.")],
    gpu: Annotated[
        str | None, typer.Option(help="24GB, 80GB, 2x80GB, ...; this machine's if not given.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="bitsandbytes-nf4, eetq, fp8, awq, gptq, ...")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Over how many cards; all if not given.")
    ] = None,
    adapters: Annotated[
        str, typer.Option(help="Comma-separated LoRA adapters: hub names, or NAME=/data/FOLDER.")
    ] = "",
    port: Annotated[int, typer.Option(help="The port on this machine.")] = 8080,
    volume: Annotated[
        str, typer.Option(help="The volume, or the folder's whole path, that keeps the weights.")
    ] = "chatkit-weights",
    form: Annotated[
        str,
        typer.Option(
            "--format", help="run prints the docker command, env the lines for serve/compose.yaml."
        ),
    ] = "run",
) -> None:
    """Print how to run a model in the text-generation-inference container.

    The token limits are computed from the model's architecture and the card's memory. Nothing is
    started.

    Examples:

      python -m serve tgi-command --model llama-3.1-8b-instruct --gpu 24GB

      python -m serve tgi-command --model llama-3.3-70b-instruct --gpu 2x80GB --quantize eetq

      python -m serve tgi-command --model mistral-7b-instruct --gpu 24GB --format env > serve/.env
    """
    from chatkit.catalogue import find
    from chatkit.hardware import named_hardware, probe
    from serve.tgi_plan import PREPARED, docker_command, plan_tgi

    if form not in FORMATS:
        raise InputError(f"There is no format {form!r}; use {' or '.join(FORMATS)}.")
    entry = find(model)
    hardware = named_hardware(gpu) if gpu else probe()
    names = tuple(name.strip() for name in adapters.split(",") if name.strip())
    plan = plan_tgi(entry, hardware, quantize, shards, names)
    if plan.quantize in PREPARED:
        typer.echo(
            f"note: {plan.quantize} needs a repository that was quantised with it; "
            f"{plan.model_id} is not.",
            err=True,
        )
    if plan.gated:
        typer.echo(f"note: {plan.model_id} is gated; put your token into HF_TOKEN.", err=True)
    if form == "env":
        for name, value in plan.environment.items():
            typer.echo(f"TGI_{name}={value}")
        return
    typer.echo(shlex.join(docker_command(plan, port, volume)))
