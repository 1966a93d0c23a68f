"""`chatkit.compare`: asks several models the same, all at once."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from chatkit.background import wait_for
from chatkit.comparison.result import Comparison, Reply
from chatkit.comparison.showing import Watcher, best_watcher
from chatkit.engine import Engine
from chatkit.engines.opening import SESSION
from chatkit.errors import ChatkitError, InputError
from chatkit.messages import Message, as_messages, system, user
from chatkit.models import Models, shared_models
from chatkit.prompt import build_prompt, check_question
from chatkit.sampling import Sampling

Asked = str | Message | Sequence[Message | Mapping[str, Any]]


def compare(
    models: Sequence[str],
    prompts: Sequence[Asked],
    *,
    system_prompt: str | None = None,
    sampling: Sampling | None = None,
    price: float | None = None,
    watcher: Watcher | None = None,
) -> Comparison:
    """Ask several models the same; their answers stream side by side under a notebook's cell.

    A model that fails spoils no other; the stop button, or Ctrl-C, ends what is not whole yet and
    keeps what is.

    Args:
        models: their names, each once.
        prompts: questions, or conversations that end with one.
        system_prompt: goes before each that has none.
        sampling: how answers are drawn; None leaves it to each model.
        price: of the machine, for an hour, in any currency; tells what a million tokens cost.
        watcher: is shown the answers while they come; None chooses one for a notebook or none.

    Raises:
        InputError: there are no models or no prompts, one comes twice, or a prompt is empty.
    """
    if not models or not prompts:
        raise InputError("A comparison needs a model and a prompt at least; name them.")
    if len(set(models)) < len(models):
        raise InputError("A model is named twice; for the noise floor use `python -m eval`.")
    asked = tuple(_conversation(prompt, system_prompt) for prompt in prompts)
    found = Comparison(tuple(models), asked, price=price)
    shown = watcher or best_watcher()
    run = _Run(found, sampling or Sampling(), shared_models(), shown)
    shown.begin(found, run.stop)
    try:
        wait_for(run.ask())
    except KeyboardInterrupt:
        run.end()
    finally:
        shown.end(found)
    return found


class _Run:
    def __init__(
        self, found: Comparison, sampling: Sampling, models: Models, watcher: Watcher
    ) -> None:
        self._found = found
        self._sampling = sampling
        self._models = models
        self._watcher = watcher
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def ask(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._model(name)) for name in self._found.models]
        shows = asyncio.create_task(self._show())
        try:
            ended = await asyncio.gather(*self._tasks, return_exceptions=True)
            for name, failure in zip(self._found.models, ended, strict=True):
                if isinstance(failure, Exception):
                    self._fail(name, f"{name} failed ({failure}); ask again.")
        finally:
            for task in (*self._tasks, shows):
                task.cancel()
            self.end()

    def stop(self) -> None:
        """End all answers, from any thread."""
        for task in self._tasks:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(task.cancel)

    def end(self) -> None:
        """Say of what is not whole that it was stopped."""
        for name in self._found.models:
            self._fail(name, "stopped")

    def _fail(self, name: str, why: str) -> None:
        for place in range(len(self._found.prompts)):
            reply = self._reply(name, place)
            if not reply.done:
                reply.done, reply.error = True, why

    async def _model(self, name: str) -> None:
        try:
            async with self._models.use(name, SESSION) as engine:
                self._found.memory[name] = engine.resident_bytes
                self._found.templates[name] = str(engine.template.identity)
                for place in range(len(self._found.prompts)):
                    await self._answer(name, place, engine)
        except ChatkitError as error:
            self._fail(name, str(error))

    async def _answer(self, name: str, place: int, engine: Engine) -> None:
        reply = self._reply(name, place)
        try:
            prompt = build_prompt(engine.template, self._found.prompts[place])
            async for delta in engine.stream(prompt, self._sampling):
                reply.text += delta.text
                if delta.usage:
                    reply.tokens = delta.usage.completion_tokens
                    reply.first_token_seconds = delta.usage.first_token_seconds
                    reply.seconds = delta.usage.total_seconds
                    # Over the whole answer: side by side, words of a short one may come at once.
                    reply.tokens_per_second = reply.tokens / max(reply.seconds, 1e-9)
        except ChatkitError as error:
            reply.error = str(error)
        reply.done = True

    def _reply(self, name: str, place: int) -> Reply:
        return self._found.replies.setdefault((place, name), Reply())

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(self._watcher.seconds)
            self._watcher.show(self._found)


def _conversation(prompt: Asked, system_prompt: str | None) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        messages: tuple[Message, ...] = (user(prompt),)
    elif isinstance(prompt, Message):
        messages = (prompt,)
    else:
        messages = as_messages(prompt)
    check_question(messages)
    if system_prompt and messages[0].role != "system":
        return (system(system_prompt), *messages)
    return messages
