"""The field's benchmarks: lm-eval's tasks with our engines behind them (extra `eval`).

Numbers are those of its own transformers backend; what differs is that every token is read once.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from chatkit.background import wait_for
from chatkit.engine import Engine, complete
from chatkit.engines.scoring import Continuation
from chatkit.engines.transformers import TransformersEngine
from chatkit.errors import InputError, Unsupported
from chatkit.messages import as_messages
from chatkit.prompt import Prompt, raw_prompt
from chatkit.sampling import Sampling

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

_ANSWER_TOKENS, _STREAMS = 256, 8


class EngineLM(TemplateLM):  # type: ignore[misc]
    """An engine as lm-eval sees a model.

    Args:
        engine: who is asked.
        streams: answers at once.
    """

    def __init__(self, engine: Engine, streams: int = _STREAMS) -> None:
        super().__init__()
        self._engine = engine
        self._tokenizer = engine.template.tokenizer
        self._streams = streams

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._special(self._tokenizer.eos)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that nothing stands before."""
        return self._special(self._tokenizer.bos or self._tokenizer.eos)

    @property
    def max_length(self) -> int:
        """The window in tokens."""
        return self._engine.context

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval keeps its caches by."""
        return self._engine.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Give the template's text, which lm-eval writes into its results."""
        return self._engine.template.source if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation with our one template."""
        messages = as_messages(chat_history)
        return self._engine.template.text(messages, answer=add_generation_prompt)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **options: Any
    ) -> list[int]:
        """Turn text into ids as the model's own tokenizer does."""
        return [token.id for token in self._tokenizer.encode_raw(string)]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Give the log-likelihood of whole texts, in windows that do not overlap."""
        windows: list[list[tuple[list[int], list[int]]]] = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            rolling = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
            windows.append([make_disjoint_window(each) for each in rolling])
        flat = [(("", ""), context, added) for each in windows for context, added in each]
        found = iter(self._loglikelihood_tokens(flat))
        return [sum(next(found)[0] for _ in each) for each in windows]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Let the engine write, several answers at once."""
        return wait_for(self._write([request.args for request in requests]))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        engine = self._engine
        if isinstance(engine, TransformersEngine):
            # Of the last token only its likelihood counts, so it needs no room.
            found = wait_for(engine.score_ids(self._wanted(requests, self.max_length + 1)))
            return [(one.logprob, one.greedy) for one in found]
        # Servers write a token after what they read.
        return wait_for(self._ask_likelihoods(self._wanted(requests, self.max_length - 1)))

    def _wanted(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], room: int
    ) -> list[Continuation]:
        wanted = []
        for _, context, added in requests:
            # The oldest tokens of what is too long are left out, as lm-eval's own backend does.
            kept = [*context, *added][-room:]
            wanted.append(Continuation(tuple(kept[: -len(added)]), tuple(added)))
        return wanted

    async def _ask_likelihoods(self, wanted: Sequence[Continuation]) -> list[tuple[float, bool]]:
        """Ask a server for each text's likelihood, several at once."""
        free = asyncio.Semaphore(self._streams)

        async def of(one: Continuation) -> tuple[float, bool]:
            async with free:
                told = await self._engine.prompt_logprobs(self._plain((*one.prompt, *one.added)))
                chances = [chance or 0.0 for chance in told[len(one.prompt) :]]
                # What is likelier than all others together is the likeliest.
                greedy = all(math.exp(chance) > 0.5 for chance in chances)
                return sum(chances), greedy or await self._is_greedy(one)

        return list(await asyncio.gather(*map(of, wanted)))

    async def _is_greedy(self, one: Continuation) -> bool:
        """Let the engine write, and look whether it writes just this."""
        sampling = Sampling(temperature=0, max_tokens=len(one.added), repetition_penalty=1.0)
        said, _ = await complete(self._engine, self._plain(one.prompt), sampling)
        return said == self._tokenizer.decode(one.added)

    def _plain(self, ids: tuple[int, ...]) -> Prompt:
        return Prompt(ids, self._tokenizer.decode(ids), (), "")

    async def _write(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        free = asyncio.Semaphore(self._streams)

        async def answer(text: str, options: dict[str, Any]) -> str:
            until = options.get("until") or []
            stop = tuple([until] if isinstance(until, str) else until)
            most = int(options.get("max_gen_toks", _ANSWER_TOKENS))
            drawn = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
            prompt = self._fitting(raw_prompt(self._tokenizer, text), most)
            sampling = Sampling(max_tokens=most, temperature=drawn, stop=stop, seed=0)
            async with free:
                said, _ = await complete(self._engine, prompt, sampling)
            return said

        return list(await asyncio.gather(*(answer(*one) for one in asked)))

    def _fitting(self, prompt: Prompt, most: int) -> Prompt:
        room = self.max_length - most
        if len(prompt.ids) <= room:
            return prompt
        kept = prompt.ids[-room:]
        return self._plain(kept)

    def _special(self, text: str | None) -> int:
        if text is None:
            raise Unsupported(f"{self._engine.name} has no token that ends a text.")
        return self._tokenizer.control[text].id


def run_tasks(
    engine: Engine,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    fewshot: int | None = None,
    limit: int | None = None,
    chat: bool = False,
) -> dict[str, Any]:
    """Run lm-eval's tasks.

    Args:
        engine: who is asked.
        tasks: their names.
        include: a folder with more tasks.
        fewshot: examples before each question; None leaves it to the task.
        limit: so many questions of each.
        chat: whether questions go through the chat template.

    Returns:
        lm-eval's results.

    Raises:
        InputError: a task is unknown; the nearest name is given.
        Unsupported: a task needs likelihoods that this engine does not give.
    """
    import difflib

    from lm_eval import simple_evaluate

    manager = _task_manager(tasks, include)
    for name in tasks:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `lm_eval ls tasks`."
            raise InputError(f"lm-eval has no task {name!r}; {hint}")
    found = simple_evaluate(
        model=EngineLM(engine),
        tasks=list(tasks),
        num_fewshot=fewshot,
        limit=limit,
        apply_chat_template=chat,
        task_manager=manager,
        bootstrap_iters=1_000,
    )
    results: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return results


def _task_manager(tasks: Sequence[str], include: Path | None) -> "TaskManager":
    from lm_eval.tasks import TaskManager

    if include is None:
        return TaskManager()
    # To list its own thousands of tasks takes lm-eval several seconds.
    own = TaskManager(include_path=str(include), include_defaults=False)
    if set(tasks) <= set(own.all_subtasks):
        return own
    return TaskManager(include_path=str(include))
