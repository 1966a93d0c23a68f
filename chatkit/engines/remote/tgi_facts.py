"""What a TGI server says of itself, and whether it reads text as our template's token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from chatkit.engines.remote.wire import Wire
from chatkit.errors import EngineError, TemplateError, Unsupported
from chatkit.messages import Message, assistant, system, user
from chatkit.prompt import Prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer

PROBES: tuple[tuple[Message, ...], ...] = (
    (user("Hello!"),),
    (user("1234 5.67\n\n  naïve 日本 👩‍🚀"), assistant("Yes."), user("def f(x):\n\treturn x")),
    (system("Be brief."), user("What is a tide?")),
)


@dataclass(frozen=True, slots=True)
class TgiFacts:
    """What a server says of itself.

    Args:
        model_id: which model it runs.
        max_input_tokens: the longest prompt.
        max_total_tokens: the longest prompt and answer together.
        max_stop_sequences: how many stop strings it takes.
        identity: the identity of its template, None when it does not know its own.
        adapters: its adapters, None when it does not tell.
        adds_begin: whether it puts the begin token before a text by itself.
    """

    model_id: str
    max_input_tokens: int
    max_total_tokens: int
    max_stop_sequences: int
    identity: str | None
    adapters: tuple[str, ...] | None
    adds_begin: bool = False


async def read_facts(wire: Wire) -> TgiFacts:
    """Ask a server what it is.

    Raises:
        EngineError: it cannot be reached, or is no TGI.
    """
    info = await wire.get("/info")
    try:
        told = info.get("chatkit_adapters")
        return TgiFacts(
            str(info["model_id"]),
            int(info["max_input_tokens"]),
            int(info["max_total_tokens"]),
            int(info["max_stop_sequences"]),
            info.get("chatkit_template"),
            None if told is None else tuple(told),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise EngineError(
            f"{wire.url} is no TGI server: its /info lacks the limits; check the address, or use "
            "openai:URL/model."
        ) from None


async def checked_facts(wire: Wire, facts: TgiFacts, template: ChatTemplate) -> TgiFacts:
    """Refuse a server that does not read conversations as our template writes them.

    Returns: the facts, with what the server does to a text's beginning.

    Raises:
        TemplateError: templates or tokenizers differ.
    """
    ours = str(template.identity)
    if facts.identity is not None and facts.identity != ours:
        raise TemplateError(
            f"The server of {wire.name} has the template {facts.identity} and this model's is "
            f"{ours}; name the model that the server runs ({facts.model_id})."
        )
    adds = False
    for messages in _renderable(template):
        rendering = template.rendering(messages)
        ids = await _tokenize(wire, rendering.text)
        bos = template.tokenizer.bos or ""
        if ids != rendering.ids and bos and rendering.text.startswith(bos):
            adds = True
            ids = await _tokenize(wire, rendering.text.removeprefix(bos))
        if ids != rendering.ids:
            raise TemplateError(
                f"The server of {wire.name} ({facts.model_id}) has another tokenizer: it reads a "
                f"conversation as {_hash(ids)}, and the template {ours} of this model writes "
                f"{_hash(rendering.ids)}; name the model that the server runs."
            )
    await _check_own_template(wire, facts, template)
    return replace(facts, adds_begin=adds)


async def _check_own_template(wire: Wire, facts: TgiFacts, template: ChatTemplate) -> None:
    """Compare the template that the server has itself, where it has one and shows it."""
    messages = _renderable(template)[0]
    body = {"messages": [{"role": one.role, "content": one.content} for one in messages]}
    try:
        reply = await wire.post("/chat_tokenize", body)
        theirs = tuple(int(token["id"]) for token in reply["tokenize_response"])
    except (Unsupported, KeyError, TypeError):
        return
    ours = template.render(messages)
    if theirs not in (ours, template.render(messages, answer=False)):
        raise TemplateError(
            f"The server of {wire.name} ({facts.model_id}) has another chat template: it writes a "
            f"conversation as {_hash(theirs)}, and the template {template.identity} of this model "
            f"as {_hash(ours)}; name the model that the server runs."
        )


def spelled(tokenizer: Tokenizer, prompt: Prompt, facts: TgiFacts, name: str) -> str:
    """Give the text that the server reads as a prompt's token ids.

    Raises:
        Unsupported: there is none, since a message spells a control token.
    """
    ids = tuple(token.id for token in tokenizer.encode_raw(prompt.text))
    bos = tokenizer.bos or ""
    begins = bool(bos) and prompt.text.startswith(bos)
    if ids != prompt.ids and not (begins and ids[1:] == prompt.ids):
        control = [
            text for text in tokenizer.control if any(text in m.content for m in prompt.messages)
        ]
        named = f"the control token {control[0]}" if control else "text that it reads otherwise"
        raise Unsupported(
            f"A message holds {named}, and {name} takes only text, where it could not be told "
            "from a real one; take it out, or use the model on this machine or on vLLM."
        )
    return prompt.text.removeprefix(bos) if facts.adds_begin and begins else prompt.text


def tgi_parameters(
    sampling: Sampling, room: int, facts: TgiFacts, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Translate to TGI's parameters; neutral values, which it refuses, are left out.

    Raises:
        Unsupported: TGI cannot do what is asked for.
    """
    for name, value in (
        ("min_p", sampling.min_p),
        ("presence_penalty", sampling.presence_penalty),
    ):
        if value:
            raise Unsupported(f"TGI has no {name}; leave it out, or use another engine.")
    if len(sampling.stop) > facts.max_stop_sequences:
        raise Unsupported(
            f"The server takes {facts.max_stop_sequences} stop strings and there are "
            f"{len(sampling.stop)}; leave some out."
        )
    parameters: dict[str, Any] = {
        "max_new_tokens": room,
        "stop": list(sampling.stop),
        "do_sample": bool(sampling.temperature),
        "return_full_text": False,
    }
    chosen: Mapping[str, Any] = {
        "repetition_penalty": _unless(sampling.repetition_penalty, 1),
        "frequency_penalty": _unless(sampling.frequency_penalty, 0),
        "top_n_tokens": sampling.logprobs or None,
        "grammar": _grammar(sampling),
    }
    if sampling.temperature:
        top_k = sampling.top_k
        chosen = {
            **chosen,
            "temperature": sampling.temperature,
            "top_p": _unless(sampling.top_p, 1),
            "typical_p": _unless(sampling.typical_p, 1),
            "top_k": None if top_k is None or top_k >= tokenizer.vocabulary_size else top_k,
            "seed": sampling.seed,
        }
    return {**parameters, **{key: value for key, value in chosen.items() if value is not None}}


def _grammar(sampling: Sampling) -> dict[str, Any] | None:
    if sampling.regex is not None:
        return {"type": "regex", "value": sampling.regex}
    if sampling.json_schema is None:
        return None
    if "properties" not in sampling.json_schema:
        raise Unsupported("TGI takes only JSON schemas with `properties` at their top level.")
    return {"type": "json", "value": sampling.json_schema}


def _unless(value: float | None, neutral: float) -> float | None:
    return None if value == neutral else value


async def _tokenize(wire: Wire, text: str) -> tuple[int, ...]:
    reply = await wire.post("/tokenize", {"inputs": text})
    try:
        return tuple(int(token["id"]) for token in reply)
    except (KeyError, TypeError, ValueError):
        raise wire.failed("answered /tokenize with something else than tokens") from None


def _renderable(template: ChatTemplate) -> list[Sequence[Message]]:
    """Give the probes that the template takes; some take no system message."""
    return [probe for probe in PROBES if probe[0].role != "system" or template.takes_system]


def _hash(ids: Sequence[int]) -> str:
    return sha256(",".join(map(str, ids)).encode()).hexdigest()[:12]
