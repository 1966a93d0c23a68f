"""The contract of every engine, held by the scripted, the embedded and the research engine."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from chatkit.engine import Delta, Engine, complete
from chatkit.engines.admission import Admission
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.llamacpp_server import Handle, LlamaCppServer
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.scripted import Script, ScriptedEngine
from chatkit.engines.transformers import TransformersEngine
from chatkit.errors import EngineError, InputError, PromptTooLong, Unsupported
from chatkit.messages import user
from chatkit.prompt import Prompt, build_prompt
from chatkit.sampling import Sampling

pytestmark = pytest.mark.anyio

Held = ScriptedEngine | LlamaCppEngine | TransformersEngine
GREEDY = Sampling(temperature=0, max_tokens=24)
CAPITALS = {"France": "Paris", "Japan": "Tokyo", "England": "London", "Germany": "Berlin"}


def atlas(question: str) -> str:
    """A script that knows the capitals, and counts for any other question."""
    known = [city for land, city in CAPITALS.items() if land in question]
    return f"It is {known[0]}." if known else " ".join(str(number) for number in range(2000))


@pytest.fixture(
    params=[
        "scripted",
        pytest.param("llamacpp", marks=pytest.mark.model),
        pytest.param("transformers", marks=pytest.mark.model),
    ]
)
def engine(request: pytest.FixtureRequest) -> Held:
    if request.param == "scripted":
        return ScriptedEngine(Script(answer=atlas, token_seconds=0.001, slots=2))
    held: Held = request.getfixturevalue(request.param)
    return held


def greedy(count: int) -> Sampling:
    return Sampling(temperature=0, max_tokens=count)


def ask(engine: Engine, question: str) -> Prompt:
    return build_prompt(engine.template, [user(question)])


def story(engine: Engine) -> Prompt:
    return ask(engine, "Write a very long story about the sea.")


async def deltas(engine: Engine, prompt: Prompt, sampling: Sampling) -> list[Delta]:
    return [delta async for delta in engine.stream(prompt, sampling)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def idle(admission: Admission) -> bool:
    return admission.running == 0 and admission.waiting == 0


async def test_only_the_last_delta_carries_finish_and_usage(engine: Held) -> None:
    heard = await deltas(engine, ask(engine, "What is the capital of France?"), GREEDY)
    assert all(delta.text and delta.finish is None and delta.usage is None for delta in heard[:-1])
    assert heard[-1].finish == "stop" and heard[-1].usage is not None
    assert "Paris" in "".join(delta.text for delta in heard)


async def test_tokens_are_told_when_they_are_asked_for(engine: Held) -> None:
    sampling = GREEDY.model_copy(update={"logprobs": 2})
    heard = await deltas(engine, ask(engine, "What is the capital of France?"), sampling)
    tokenizer = engine.template.tokenizer
    told = [token for delta in heard for token in delta.tokens]
    assert tokenizer.decode(token.id for token in told) == "".join(delta.text for delta in heard)
    assert told[-1].id == tokenizer.control[tokenizer.eos or ""].id
    assert heard[-1].usage is not None and len(told) >= heard[-1].usage.completion_tokens
    for token in told:
        assert token.logprob is not None and token.logprob <= 0
        assert token.likeliest[0] == (token.id, pytest.approx(token.logprob))


async def test_tokens_are_not_told_unless_they_are_asked_for(engine: Held) -> None:
    heard = await deltas(engine, ask(engine, "What is the capital of France?"), GREEDY)
    assert not any(delta.tokens for delta in heard)


async def test_every_token_of_a_character_is_told(engine: Held) -> None:
    sampling = GREEDY.model_copy(update={"logprobs": 0, "max_tokens": 9})
    heard = await deltas(
        engine, ask(engine, "Write this fox again: \U0001f98a\U0001f98a"), sampling
    )
    told = [token.id for delta in heard for token in delta.tokens]
    text = engine.template.tokenizer.decode(told)
    assert text.rstrip("\ufffd") == "".join(delta.text for delta in heard)


async def test_usage_counts_the_prompt_and_the_answer(engine: Held) -> None:
    prompt = story(engine)
    _, last = await complete(engine, prompt, greedy(8))
    assert last.usage is not None
    assert last.usage.prompt_tokens == len(prompt.ids)
    assert last.usage.completion_tokens == 8
    assert last.finish == "length"


async def test_times_are_in_order(engine: Held) -> None:
    _, last = await complete(engine, story(engine), greedy(8))
    assert last.usage is not None
    times = last.usage
    assert 0 <= times.queued_seconds <= times.first_token_seconds <= times.total_seconds


@pytest.mark.lengthy
async def test_a_stop_string_ends_the_answer_and_is_not_shown(engine: Held) -> None:
    prompt = story(engine)
    whole, _ = await complete(engine, prompt, GREEDY)
    stop = whole[10:14]
    cut, last = await complete(engine, prompt, GREEDY.model_copy(update={"stop": (stop,)}))
    assert cut == whole[: whole.index(stop)]
    assert last.finish == "stop"


async def test_the_same_seed_gives_the_same_answer(engine: Held) -> None:
    sampling = Sampling(temperature=1.5, top_p=1.0, max_tokens=16, seed=7)
    first, _ = await complete(engine, story(engine), sampling)
    second, _ = await complete(engine, story(engine), sampling)
    assert first == second


@pytest.mark.model
@pytest.mark.parametrize("name", ["llamacpp", "transformers"])
async def test_other_seeds_give_other_answers(name: str, request: pytest.FixtureRequest) -> None:
    engine: Held = request.getfixturevalue(name)
    answers = set()
    for seed in range(3):
        sampling = Sampling(temperature=1.5, top_p=1.0, max_tokens=16, seed=seed)
        answers.add((await complete(engine, story(engine), sampling))[0])
    assert len(answers) > 1


async def test_requests_at_once_do_not_mix(engine: Held) -> None:
    prompts = [ask(engine, f"What is the capital of {land}?") for land in CAPITALS]
    answers = await asyncio.gather(*(complete(engine, prompt, GREEDY) for prompt in prompts))
    for (text, _), city in zip(answers, CAPITALS.values(), strict=True):
        assert city in text


async def test_closing_in_mid_answer_frees_the_engine(engine: Held) -> None:
    async with aclosing(engine.stream(story(engine), greedy(1000))) as stream:
        async for _ in stream:
            break
    await until(lambda: idle(engine.admission))
    text, _ = await complete(engine, ask(engine, "What is the capital of France?"), GREEDY)
    assert "Paris" in text


@pytest.mark.lengthy
async def test_cancelling_in_the_queue_gives_the_place_up(engine: Held) -> None:
    if isinstance(engine, ScriptedEngine):
        # A script that is soon done lets the queue in before anybody sees it.
        engine = ScriptedEngine(replace(engine.script, token_seconds=0.02))
    running = [
        asyncio.create_task(deltas(engine, story(engine), greedy(60)))
        for _ in range(engine.admission.slots)
    ]
    await until(lambda: engine.admission.running == engine.admission.slots)
    queued = asyncio.create_task(deltas(engine, story(engine), greedy(60)))
    await until(lambda: engine.waiting == 1)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert engine.waiting == 0
    for answer in await asyncio.gather(*running):
        assert answer[-1].finish == "length"
    await until(lambda: idle(engine.admission))


@pytest.mark.parametrize("after", [0.0, 0.2])
async def test_cancelling_while_it_reads_the_prompt_frees_the_engine(
    engine: Held, after: float
) -> None:
    if isinstance(engine, ScriptedEngine):
        engine = ScriptedEngine(replace(engine.script, reading_seconds=60, context=32_768))
    long = ask(engine, "word " * 3000)
    heard: list[Delta] = []

    async def listen() -> None:
        async for delta in engine.stream(long, greedy(8)):
            heard.append(delta)

    task = asyncio.create_task(listen())
    await until(lambda: engine.admission.running == 1)
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: idle(engine.admission))
    assert not heard


@pytest.mark.lengthy
async def test_a_prompt_longer_than_the_window_is_refused(engine: Held) -> None:
    with pytest.raises(PromptTooLong, match="shorten it"):
        await deltas(engine, ask(engine, "word " * 9000), GREEDY)
    assert idle(engine.admission)


@pytest.mark.model
async def test_an_answer_never_leaves_the_window(model_home: Path) -> None:
    engine = open_engine("smollm2-135m", LoadOptions(context=256))
    prompt = ask(engine, "Write a very long story about the sea. " * 8)
    _, last = await complete(engine, prompt, Sampling(temperature=0, max_tokens=5000))
    assert last.usage is not None
    assert last.usage.prompt_tokens + last.usage.completion_tokens <= engine.context
    await engine.close()


async def test_an_adapter_that_is_not_loaded_is_refused(engine: Held) -> None:
    with pytest.raises(Unsupported, match="poet"):
        async for _ in engine.stream(story(engine), GREEDY, adapter="poet"):
            pass


async def test_an_empty_message_is_refused(engine: Held) -> None:
    with pytest.raises(InputError, match="empty"):
        ask(engine, "  \n ")


async def test_health_returns_while_the_engine_works(engine: Held) -> None:
    await engine.health()


async def test_a_scripted_failure_comes_after_what_was_written() -> None:
    engine = ScriptedEngine(Script(fail_after=3))
    heard = []
    with pytest.raises(EngineError, match="after 3 tokens"):
        async for delta in engine.stream(ask(engine, "hello"), GREEDY):
            heard.append(delta.text)
    assert "".join(heard) == "You"
    assert idle(engine.admission)


async def test_a_stopped_script_writes_at_most_one_more_token() -> None:
    engine = ScriptedEngine(Script(answer=atlas, token_seconds=0.001))
    async with aclosing(engine.stream(story(engine), greedy(500))) as stream:
        async for _ in stream:
            break
    written = engine.tokens_written
    await asyncio.sleep(0.05)
    assert engine.tokens_written == written <= 2


async def test_a_closed_engine_says_so() -> None:
    engine = ScriptedEngine()
    await engine.close()
    with pytest.raises(EngineError, match="closed"):
        await engine.health()
    with pytest.raises(EngineError, match="closed"):
        await complete(engine, ask(engine, "hello"), GREEDY)


@pytest.mark.model
async def test_llamacpp_hears_nothing_after_it_was_told_to_stop(llamacpp: LlamaCppEngine) -> None:
    server = llamacpp.server
    told: list[bool] = []

    class Watched(LlamaCppServer):
        def take(self) -> Handle | None:
            handle = super().take()
            return handle and partial(self.hear, handle)

        def hear(self, handle: Handle, request: dict, hear: Callable[[dict], bool]) -> None:
            def watched(chunk: dict) -> bool:
                told.append(hear(chunk))
                return told[-1]

            handle(request, watched)

    llamacpp.server = Watched(server.raw, {})
    try:
        async with aclosing(llamacpp.stream(story(llamacpp), greedy(500))) as stream:
            async for _ in stream:
                break
        await until(lambda: idle(llamacpp.admission))
    finally:
        llamacpp.server = server
    assert told.count(True) == 1 and told[-1]


@pytest.mark.model
async def test_llamacpp_keeps_to_a_json_schema(llamacpp: LlamaCppEngine) -> None:
    import json

    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    sampling = GREEDY.model_copy(update={"json_schema": schema, "max_tokens": 60})
    text, _ = await complete(llamacpp, ask(llamacpp, "What is the capital of France?"), sampling)
    assert list(json.loads(text)) == ["city"]


@pytest.mark.model
async def test_engines_without_grammars_refuse_a_json_schema(
    transformers: TransformersEngine,
) -> None:
    sampling = GREEDY.model_copy(update={"json_schema": {"type": "object"}})
    for engine in (transformers, ScriptedEngine()):
        with pytest.raises(Unsupported, match="json_schema"):
            await complete(engine, ask(engine, "hello"), sampling)


@pytest.mark.model
async def test_llamacpp_reads_only_what_is_new_in_a_conversation(llamacpp: LlamaCppEngine) -> None:
    prompt = ask(llamacpp, "Name three colours of the rainbow, and say why you chose them.")
    await complete(llamacpp, prompt, GREEDY)
    _, last = await complete(llamacpp, prompt, GREEDY)
    assert last.usage is not None
    assert last.usage.cached_tokens == len(prompt.ids) - 1


@pytest.mark.slow
@pytest.mark.model
async def test_more_requests_than_the_window_holds_wait_instead_of_failing(
    llamacpp: LlamaCppEngine,
) -> None:
    prompts = [ask(llamacpp, f"{number} " + "word " * 400) for number in range(6)]
    sampling = Sampling(temperature=0, max_tokens=2500)
    short = sampling.model_copy(update={"stop": ("e",)})
    answers = await asyncio.gather(*(complete(llamacpp, prompt, short) for prompt in prompts))
    assert all(last.finish for _, last in answers)


@pytest.mark.model
async def test_score_prefers_the_true_continuation(transformers: TransformersEngine) -> None:
    prompt = ask(transformers, "What is the capital of France?")
    true, false = await transformers.score(prompt, ["It is Paris.", "It is Rome."])
    assert false < true < 0


@pytest.mark.model
async def test_score_adds_up_over_the_tokens(transformers: TransformersEngine) -> None:
    import torch

    prompt = ask(transformers, "What is the capital of France?")
    (whole,) = await transformers.score(prompt, ["Paris is it"])
    added = [token.id for token in transformers.template.tokenizer.encode("Paris is it")]
    ids = torch.tensor([[*prompt.ids, *added]])
    with torch.inference_mode():
        chances = transformers.model(ids).logits[0].log_softmax(-1)
    first = len(prompt.ids) - 1
    expected = sum(float(chances[first + step, id]) for step, id in enumerate(added))
    assert whole == pytest.approx(expected, abs=1e-3)


@pytest.mark.model
async def test_engines_that_cannot_score_name_one_that_can(llamacpp: LlamaCppEngine) -> None:
    for engine in (llamacpp, ScriptedEngine()):
        with pytest.raises(Unsupported, match="@transformers"):
            await engine.score(ask(engine, "hello"), ["a"])


@pytest.mark.model
async def test_a_batch_answers_like_one_by_one(transformers: TransformersEngine) -> None:
    prompts = [ask(transformers, f"What is the capital of {land}?") for land in CAPITALS]
    together = await transformers.batch(prompts, GREEDY)
    alone = [(await complete(transformers, prompt, GREEDY))[0] for prompt in prompts]
    assert together == alone
