"""`python -m serve engine`: one model behind TGI's and OpenAI's routes."""

from pathlib import Path
from typing import Annotated

import typer

from chatkit.errors import InputError


def engine(
    model: Annotated[str, typer.Option(help="A model's name, as everywhere in chatkit.")],
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of a LoRA adapter; may be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(help="What callers must show as a bearer.", envvar="CHATKIT_SERVE_API_KEY"),
    ] = None,
    context: Annotated[int | None, typer.Option(help="The window in tokens.")] = None,
    speculate: Annotated[
        bool, typer.Option("--speculate", help="Guess tokens from the text before; embedded only.")
    ] = False,
    kv_cache: Annotated[str, typer.Option(help="f16 or q8_0, half the memory; embedded only.")] = (
        "f16"
    ),
    quantize: Annotated[str | None, typer.Option(help="int8 or int4, @transformers only.")] = None,
    max_concurrent_requests: Annotated[
        int, typer.Option(min=1, help="The next request is refused with 429.")
    ] = 128,
    max_input_tokens: Annotated[int | None, typer.Option(min=1, help="The longest prompt.")] = None,
    max_total_tokens: Annotated[
        int | None, typer.Option(min=2, help="The longest prompt and answer together.")
    ] = None,
    max_best_of: Annotated[int, typer.Option(min=1)] = 2,
    max_stop_sequences: Annotated[int, typer.Option(min=0)] = 4,
    max_top_n_tokens: Annotated[int, typer.Option(min=0, max=20)] = 5,
    payload_limit: Annotated[int, typer.Option(min=1, help="The largest body, in bytes.")] = (
        2_000_000
    ),
    disable_grammar_support: Annotated[bool, typer.Option("--disable-grammar-support")] = False,
    tgi_compat: Annotated[
        bool, typer.Option("--tgi-compat", help="Be TGI also where we find it wrong.")
    ] = False,
) -> None:
    """Serve a model over TGI's and OpenAI's HTTP routes.

    The key may stand in CHATKIT_SERVE_API_KEY instead, where other users of the machine cannot
    read it.

    Examples:

      python -m serve engine --model smollm2-135m

      python -m serve engine --model smollm2-135m --port 8080 --api-key "$KEY"

      python -m serve engine --model smollm2-135m --adapter pirate=./pirate-lora

    Then: curl localhost:8080/generate -H 'content-type: application/json' -d '{"inputs": "Hi"}'
    """
    from typing import cast

    from chatkit.engines.llamacpp_server import CacheType, EmbeddedOptions
    from chatkit.engines.opening import LoadOptions, open_engine
    from chatkit.engines.weights import Quantize
    from chatkit.telemetry import set_up_logging
    from serve.wire.options import WireOptions
    from serve.wire.running import run
    from serve.wire.service import WireService

    if kv_cache not in ("f16", "q8_0"):
        raise InputError(f"kv-cache is {kv_cache!r}; use f16 or q8_0.")
    if quantize not in (None, "int8", "int4"):
        raise InputError(f"quantize is {quantize!r}; use int8 or int4.")
    set_up_logging()
    opened = open_engine(
        model,
        LoadOptions(
            cast(Quantize | None, quantize),
            context,
            adapters=_adapters(adapter or []),
            embedded=EmbeddedOptions(speculate, cast(CacheType, kv_cache)),
            use="many",
        ),
    )
    total = max_total_tokens or opened.context
    if total > opened.context:
        raise InputError(
            f"max-total-tokens is {total} and the window of {model} {opened.context}; lower it."
        )
    longest = max_input_tokens or total - 1
    if longest >= total:
        raise InputError(
            f"max-input-tokens is {longest} and max-total-tokens {total}; an answer needs room too."
        )
    options = WireOptions(
        model_id=model,
        max_input_tokens=longest,
        max_total_tokens=total,
        api_key=api_key,
        tgi_compat=tgi_compat,
        max_concurrent_requests=max_concurrent_requests,
        max_best_of=max_best_of,
        max_stop_sequences=max_stop_sequences,
        max_top_n_tokens=max_top_n_tokens,
        payload_limit=payload_limit,
        grammar=not disable_grammar_support,
    )
    run(WireService(opened, options), host, port)


def _adapters(given: list[str]) -> tuple[tuple[str, Path], ...]:
    """Take `NAME=FOLDER` apart.

    Raises:
        InputError: one has no name or no folder.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise InputError(f"The adapter {text!r} has no name or folder; write NAME=FOLDER.")
        if name in found:
            raise InputError(f"Two adapters are called {name!r}; give each a name of its own.")
        found[name] = Path(folder)
    return tuple(found.items())
