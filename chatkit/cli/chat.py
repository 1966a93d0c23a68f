"""`python -m chatkit chat NAME`: talk to a model in the terminal or in a pipe."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import typer

from chatkit.errors import InputError

if TYPE_CHECKING:
    from chatkit.engines.weights import Quantize
    from chatkit.session import Chat


def chat(
    name: Annotated[str, typer.Argument(help="The model, for example smollm2-135m.")],
    once: Annotated[
        str | None, typer.Option(help="Print the answer to this question and leave.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token; 1 is the model's own.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    quantize: Annotated[
        str | None, typer.Option(help="int8 or int4 weights in the transformers engine.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Load even when it seems not to fit.")] = False,
    conversation: Annotated[
        str | None, typer.Option(help="Go on with this one; `conversations list` names them.")
    ] = None,
    temporary: Annotated[
        bool, typer.Option("--temporary", help="Store nothing of what is said.")
    ] = False,
) -> None:
    """Talk to a model. In a pipe each line is a message, and the answers are plain text.

    Ctrl-C stops an answer, not the program.

    Examples:

      python -m chatkit chat smollm2-135m

      python -m chatkit chat smollm2-135m --once "What is a tide?" --temperature 0

      python -m chatkit chat smollm2-135m --conversation 4d1f…

      printf 'Hi!\\nTell me a joke.\\n' | python -m chatkit chat smollm2-135m
    """
    from chatkit.sampling import Sampling
    from chatkit.session import load

    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    model = load(name, quantize=_quantize(quantize), force=force)
    talk = model.chat(
        system=system, sampling=sampling, conversation=conversation, temporary=temporary
    )
    if once is not None:
        _print_answer(talk, once)
    elif sys.stdin.isatty():
        from chatkit.cli.terminal_chat import TerminalChat

        TerminalChat(talk).run()
    else:
        for line in _lines(sys.stdin.buffer):
            _print_answer(talk, line)


def _print_answer(talk: "Chat", question: str) -> None:
    """Write an answer as it comes; Ctrl-C stops the answer and the program."""
    for delta in talk.stream(question):
        sys.stdout.write(delta.text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _lines(stdin: BinaryIO) -> Iterator[str]:
    """Read messages line by line; empty lines are not messages."""
    for number, line in enumerate(stdin, start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(
                f"Line {number} of the input is not UTF-8; convert it first."
            ) from None
        if text:
            yield text


def _quantize(text: str | None) -> "Quantize | None":
    if text not in (None, "int8", "int4"):
        raise InputError(f"There is no quantisation {text!r}; use int8 or int4.")
    return cast("Quantize | None", text)
