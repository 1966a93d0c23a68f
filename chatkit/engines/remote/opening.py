"""Connects to servers: finds the template, and compares it with what they run."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from chatkit.engines.remote import openai_facts, tgi_facts
from chatkit.engines.remote.estimating import ServersTemplate
from chatkit.engines.remote.openai import OpenaiEngine
from chatkit.engines.remote.wire import Wire
from chatkit.errors import ChatkitError, UnknownModel
from chatkit.naming import ModelName
from chatkit.sampling import Sampling
from chatkit.settings import settings
from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from chatkit.engines.remote.tgi import TgiEngine


class Local(NamedTuple):
    """What a model on this machine has in common with a server's."""

    template: ChatTemplate
    defaults: Sampling


FindLocal = Callable[[str], Local]
"""Reads a model's template and defaults; nothing of its weights."""


def open_tgi(name: ModelName, key: str | None, find_local: FindLocal) -> "TgiEngine":
    """Connect to a TGI server; takes a moment, so call it on a thread.

    Args:
        name: the model's name.
        key: what is shown to the server; None takes the one of the environment.
        find_local: reads a model's template.

    Raises:
        UnknownModel: nothing here has the server's template.
        TemplateError: the server reads conversations otherwise than our template writes them.
        EngineError: it cannot be reached, or is no TGI.
    """

    from chatkit.engines.remote.tgi import TgiEngine

    async def connect() -> TgiEngine:
        shown = key or settings().tgi_key
        wire = Wire(name.text, name.target, shown, "CHATKIT_TGI_API_KEY")
        try:
            facts = await tgi_facts.read_facts(wire)
            local = _local(name, facts.model_id, find_local)
            facts = await tgi_facts.checked_facts(wire, facts, local.template)
        finally:
            # The pool of connections belongs to this loop, which ends here.
            await wire.sessions.close()
        return TgiEngine(name.text, wire, facts, local.template, local.defaults)

    return asyncio.run(connect())


def open_openai(
    name: ModelName, key: str | None, find_local: FindLocal, neutral: Sampling
) -> OpenaiEngine:
    """Connect to a server with OpenAI's wire; takes a moment, so call it on a thread.

    Args:
        name: the model's name.
        key: what is shown to the server; None takes the one of the environment.
        find_local: reads the template of the model that the name gives after `#`.
        neutral: the defaults where the server keeps its template.

    Raises:
        UnknownModel: the server has no such model.
        EngineError: it cannot be reached.
    """

    async def connect() -> OpenaiEngine:
        url, model = _address_and_model(name.target)
        shown = key or settings().openai_key
        wire = Wire(name.text, url, shown, "CHATKIT_OPENAI_API_KEY")
        try:
            facts = await openai_facts.read_facts(wire, model)
            if not name.local:
                return OpenaiEngine(name.text, wire, facts, ServersTemplate(model), neutral)
            local = find_local(name.local)
            openai_facts.check_identity(wire, facts, local.template)
            ours = await openai_facts.takes_ids(wire, model, local.template)
            template = local.template if ours else ServersTemplate(model)
            facts = replace(facts, takes_ids=ours)
            return OpenaiEngine(name.text, wire, facts, template, local.defaults)
        finally:
            await wire.sessions.close()

    return asyncio.run(connect())


def _local(name: ModelName, model_id: str, find_local: FindLocal) -> Local:
    """Read the template that a name gives, or the one of the model that the server names."""
    if name.local:
        return find_local(name.local)
    try:
        return find_local(model_id)
    except ChatkitError as error:
        raise UnknownModel(
            f"The server {name.target} runs {model_id!r}, whose template is not here ({error}) "
            f"Name a model with the same one: {name.text}#smollm2-135m, for example."
        ) from None


def _address_and_model(target: str) -> tuple[str, str]:
    """Take an address apart; what comes after `/v1/`, or else the whole path, is the model."""
    parts = urlsplit(target)
    before, separator, after = parts.path.partition("/v1/")
    prefix, model = (before, after) if separator else ("", parts.path)
    return f"{parts.scheme}://{parts.netloc}{prefix}", model.strip("/")
