"""What a server with OpenAI's wire is, and what it takes beyond the common options."""

from dataclasses import dataclass
from typing import Any, Literal

from chatkit.engines.remote.wire import Wire
from chatkit.errors import ChatkitError, TemplateError, UnknownModel, Unsupported
from chatkit.messages import user
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate

Kind = Literal["chatkit", "vllm", "llamacpp", "other"]
# The names of options that OpenAI's API lacks, where a server is known to take them.
EXTRAS: dict[Kind, dict[str, str]] = {
    "chatkit": {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty"},
    "vllm": {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty"},
    "llamacpp": {
        "top_k": "top_k",
        "min_p": "min_p",
        "typical_p": "typical_p",
        "repetition_penalty": "repeat_penalty",
    },
    "other": {},
}
NEUTRAL = {"top_k": None, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True)
class OpenaiFacts:
    """What a server is.

    Args:
        kind: which program it is, as far as it shows.
        model: the model's name there.
        context: the window in tokens, None when it does not tell.
        adapters: the other models there that share this one's base; None when it does not tell.
        identity: the identity of its template, None when it does not know its own.
        takes_ids: whether completions take token ids, so that the template is ours.
    """

    kind: Kind
    model: str
    context: int | None
    adapters: tuple[str, ...] | None
    identity: str | None = None
    takes_ids: bool = False


async def read_facts(wire: Wire, model: str) -> OpenaiFacts:
    """Ask a server what it is and whether it has a model.

    Raises:
        UnknownModel: it has no such model.
        EngineError: it cannot be reached.
    """
    listed = await wire.get("/v1/models")
    try:
        models = {str(one["id"]): one for one in (listed or {})["data"]}
    except (KeyError, TypeError):
        models = {}
    if models and model not in models:
        raise UnknownModel(
            f"The server {wire.url} has no model {model!r}; it has {', '.join(sorted(models))}."
        )
    shown = models.get(model, {})
    kind = await _kind(wire, shown)
    others = tuple(name for name in models if name != model)
    told = others if kind in ("chatkit", "vllm") else None
    return OpenaiFacts(kind, model, _context(shown), told, shown.get("chatkit_template"))


def check_identity(wire: Wire, facts: OpenaiFacts, template: ChatTemplate) -> None:
    """Refuse a server that says that it has another template.

    Raises:
        TemplateError: the templates differ.
    """
    ours = str(template.identity)
    if facts.identity not in (None, ours):
        raise TemplateError(
            f"The server of {wire.name} has the template {facts.identity} and this model's is "
            f"{ours}; name the model that the server runs."
        )


async def takes_ids(wire: Wire, model: str, template: ChatTemplate) -> bool:
    """Tell whether completions take token ids and count them as we do."""
    ids = template.render([user("Hello!")])
    body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0}
    try:
        reply = await wire.post("/v1/completions", body)
        return int(reply["usage"]["prompt_tokens"]) == len(ids)
    except (Unsupported, KeyError, TypeError, ValueError):
        return False


def drawn_options(facts: OpenaiFacts, sampling: Sampling, asked: Sampling) -> dict[str, Any]:
    """Translate how tokens are drawn.

    Args:
        facts: what the server is.
        sampling: everything, the model's own defaults filled in.
        asked: what the caller asked for.

    Raises:
        Unsupported: the server is not known to take an option that the caller asked for.
    """
    options: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
    }
    known = EXTRAS[facts.kind]
    for name, neutral in NEUTRAL.items():
        value = getattr(sampling, name)
        if name in known:
            options[known[name]] = value
        elif getattr(asked, name) not in (None, neutral):
            raise Unsupported(
                f"The server of {facts.model} is not known to take {name}; leave it out, or use "
                "vLLM or the model on this machine."
            )
    return {name: value for name, value in options.items() if value is not None}


def completion_format(facts: OpenaiFacts, sampling: Sampling) -> dict[str, Any]:
    """Say what binds a completion.

    Raises:
        Unsupported: the server is not known to bind completions so.
    """
    if sampling.json_schema is None and sampling.regex is None:
        return {}
    if facts.kind in ("chatkit", "vllm"):
        if sampling.regex is not None:
            return {"structured_outputs": {"regex": sampling.regex}}
        return {"structured_outputs": {"json": sampling.json_schema}}
    if facts.kind == "llamacpp" and sampling.json_schema is not None:
        return {"json_schema": sampling.json_schema}
    raise _unbound(facts)


def chat_format(facts: OpenaiFacts, sampling: Sampling) -> dict[str, Any]:
    """Say what binds a chat answer.

    Raises:
        Unsupported: OpenAI's API has no regular expressions.
    """
    if sampling.regex is not None:
        raise _unbound(facts)
    if sampling.json_schema is None:
        return {}
    schema = {"name": "answer", "schema": sampling.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _unbound(facts: OpenaiFacts) -> Unsupported:
    return Unsupported(
        f"The server of {facts.model} is not known to keep to this; use vLLM or the embedded "
        "engine."
    )


async def _kind(wire: Wire, shown: dict[str, Any]) -> Kind:
    if "chatkit_template" in shown:
        return "chatkit"
    if shown.get("owned_by") == "vllm":
        return "vllm"
    if shown.get("owned_by") == "llamacpp":
        return "llamacpp"
    try:
        return "llamacpp" if "build_info" in (await wire.get("/props") or {}) else "other"
    except ChatkitError:
        return "other"


def _context(shown: dict[str, Any]) -> int | None:
    meta = shown.get("meta")
    told = shown.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return int(told) if isinstance(told, int) and told > 0 else None
