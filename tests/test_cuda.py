"""The research engine on an NVIDIA card: the contract that tests elsewhere hold on the CPU."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_quantize import TEXT, measure
from test_same_weights import QUESTIONS, gap_at_split

from chatkit.catalogue import find
from chatkit.engine import complete
from chatkit.engines.opening import LoadOptions, open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.engines.weights import load_weights
from chatkit.errors import EngineError, NotEnoughMemory
from chatkit.hardware import probe
from chatkit.loading.folder import folder_of
from chatkit.memory import Method, Training, Workload, estimate, estimate_training, load_of
from chatkit.messages import assistant, user
from chatkit.prompt import Prompt, build_prompt
from chatkit.sampling import Sampling
from chatkit.template import ChatTemplate

pytestmark = [pytest.mark.anyio, pytest.mark.model]

NAME = "smollm2-135m"
GREEDY = Sampling(temperature=0, max_tokens=48)
CAPITALS = {"France": "Paris", "Japan": "Tokyo", "England": "London", "Germany": "Berlin"}
WHOLE = 4 * find(NAME).parameters
TAUGHT = (user("What is a tide?"), assistant("A tide is the sea breathing in and out."))


@pytest.fixture(scope="module", autouse=True)
def card() -> None:
    """Without a card nothing here can run."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip(
            "no NVIDIA card: run `CUDA_VISIBLE_DEVICES=0 python -m pytest tests/test_cuda.py`"
        )


@pytest.fixture(scope="module")
def beside(card: None) -> Callable[[], int]:
    """Tells the bytes that this process holds on the card outside PyTorch's allocator."""
    import torch

    assert not torch.cuda.is_initialized()
    free = probe().free
    return lambda: free - probe().free - torch.cuda.memory_reserved()


@pytest.fixture(scope="module")
def home(beside: Callable[[], int], default_model_home: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(default_model_home))
        yield default_model_home


@pytest.fixture(autouse=True)
def pulled(home: Path, model_home: Path) -> None:
    """Every test here finds the pulled model."""


@pytest.fixture(scope="module")
def checkpoint(home: Path) -> Path:
    return folder_of(find(NAME)).checkpoint


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[TransformersEngine]:
    opened = on_the_card()
    yield opened
    asyncio.run(opened.close())


@pytest.fixture(scope="module")
def reference(engine: TransformersEngine, checkpoint: Path) -> TransformersEngine:
    """The same weights in 32 bits on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    return TransformersEngine("reference", model, engine.template, engine.defaults)


def on_the_card(quantize: str | None = None) -> TransformersEngine:
    opened = open_engine(f"{NAME}@transformers", LoadOptions(quantize))
    assert isinstance(opened, TransformersEngine)
    return opened


def ask(engine: TransformersEngine, question: str) -> Prompt:
    return build_prompt(engine.template, [user(question)])


def story(engine: TransformersEngine) -> Prompt:
    return ask(engine, "Write a very long story about the sea.")


async def until_idle(engine: TransformersEngine) -> None:
    """Wait for something that must happen; the test runner's own limit ends a vain wait."""
    while engine.admission.running:
        await asyncio.sleep(0.01)


def test_weights_lie_on_the_card_in_16_bits(engine: TransformersEngine) -> None:
    import torch

    model = engine.model
    assert model is not None and model.device.type == "cuda"
    print(f"{model.dtype} on {torch.cuda.get_device_name()}")
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    assert {weight.dtype for weight in model.parameters()} == {half}
    assert engine.resident_bytes == pytest.approx(WHOLE / 2, rel=0.01)


def test_the_probe_sees_the_card() -> None:
    import torch

    hardware = probe()
    assert hardware.kind == "cuda"
    assert hardware.places[0].name == torch.cuda.get_device_name()
    assert hardware.places[0].memory == pytest.approx(torch.cuda.mem_get_info()[1], rel=0.05)


async def test_an_answer_streams_and_counts(engine: TransformersEngine) -> None:
    prompt = ask(engine, "What is the capital of France?")
    heard = [delta async for delta in engine.stream(prompt, GREEDY)]
    assert "Paris" in "".join(delta.text for delta in heard) and len(heard) > 3
    assert heard[-1].finish == "stop" and heard[-1].usage is not None
    assert heard[-1].usage.prompt_tokens == len(prompt.ids)


async def test_closing_in_mid_answer_frees_the_card(engine: TransformersEngine) -> None:
    long = Sampling(temperature=0, max_tokens=4000)
    async with aclosing(engine.stream(story(engine), long)) as stream:
        async for _ in stream:
            break
    await until_idle(engine)
    assert (
        "Paris"
        in (await complete(engine, ask(engine, "What is the capital of France?"), GREEDY))[0]
    )


async def test_cancelling_while_it_reads_the_prompt_frees_the_card(
    engine: TransformersEngine,
) -> None:
    task = asyncio.create_task(complete(engine, ask(engine, "word " * 7000), GREEDY))
    while not engine.admission.running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_idle(engine)


async def test_a_stop_string_ends_the_answer(engine: TransformersEngine) -> None:
    whole, _ = await complete(engine, story(engine), GREEDY)
    stop = whole[10:14]
    cut, last = await complete(engine, story(engine), GREEDY.model_copy(update={"stop": (stop,)}))
    assert cut == whole[: whole.index(stop)] and last.finish == "stop"


async def test_a_seed_gives_the_same_answer_and_others_do_not(engine: TransformersEngine) -> None:
    async def drawn(seed: int) -> str:
        sampling = Sampling(temperature=1.5, top_p=0.9, top_k=50, max_tokens=16, seed=seed)
        return (await complete(engine, story(engine), sampling))[0]

    assert await drawn(7) == await drawn(7)
    assert len({await drawn(seed) for seed in range(3)}) > 1


async def test_penalties_work_on_the_card(engine: TransformersEngine) -> None:
    penalised = GREEDY.model_copy(
        update={"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.5}
    )
    plain, _ = await complete(engine, story(engine), GREEDY)
    assert (await complete(engine, story(engine), penalised))[0] != plain


async def test_a_batch_answers_every_prompt(engine: TransformersEngine) -> None:
    prompts = [ask(engine, f"What is the capital of {land}?") for land in CAPITALS]
    answers = await engine.batch(prompts, GREEDY)
    assert all(city in answer for answer, city in zip(answers, CAPITALS.values(), strict=True))


async def test_scores_are_close_to_those_of_32_bits(
    engine: TransformersEngine, reference: TransformersEngine
) -> None:
    differences = []
    for question in QUESTIONS:
        prompt = ask(engine, question)
        continuations = ["It is Paris.", "I do not know.", TEXT]
        ours = await engine.score(prompt, continuations)
        theirs = await reference.score(prompt, continuations)
        for text, one, other in zip(continuations, ours, theirs, strict=True):
            tokens = len(engine.template.tokenizer.encode(text))
            differences.append((abs(one - other) / tokens, abs(one - other)))
    worst, most = max(d[0] for d in differences), max(d[1] for d in differences)
    print(f"score: at most {worst:.4f} nat per token and {most:.3f} nat per text from 32 bits")
    assert worst <= 0.1


async def test_text_parts_from_32_bits_only_where_two_tokens_are_nearly_as_likely(
    engine: TransformersEngine, reference: TransformersEngine
) -> None:
    gaps = []
    for question in QUESTIONS:
        prompt = ask(engine, question)
        ours, _ = await complete(engine, prompt, GREEDY)
        theirs, _ = await complete(reference, prompt, GREEDY)
        if ours != theirs:
            gaps.append(gap_at_split(reference, prompt, ours, theirs))
    print(f"parts in {len(gaps)} of {len(QUESTIONS)}, gaps {[f'{gap:.3f}' for gap in gaps]} nat")
    assert all(gap <= 0.25 for gap in gaps)


@pytest.mark.parametrize(
    ("quantize", "most_memory", "most_perplexity"), [("int8", 0.65, 1.03), ("int4", 0.40, 1.15)]
)
def test_memory_drops_and_quality_holds(
    checkpoint: Path, quantize: str, most_memory: float, most_perplexity: float
) -> None:
    half, plain = measure(checkpoint, None)
    size, perplexity = measure(checkpoint, quantize)
    print(
        f"{quantize}: {size / WHOLE:.3f} of the memory of 32 bits, {size / half:.3f} of 16, "
        f"{perplexity / plain:.3f} of the perplexity ({plain:.3f} in 16 bits)"
    )
    assert size <= most_memory * WHOLE
    assert perplexity <= most_perplexity * plain


@pytest.mark.parametrize(
    ("quantize", "tokens"), [(None, 512), (None, 2048), (None, 8000), ("int8", 512), ("int4", 512)]
)
async def test_the_estimate_holds_what_the_card_held(
    beside: Callable[[], int], quantize: str | None, tokens: int
) -> None:
    held = fresh_count()
    opened = on_the_card(quantize)
    prompt = ask(opened, "word " * (tokens - 70))
    await complete(opened, prompt, GREEDY.model_copy(update={"max_tokens": 20}))
    tensors, other = peak() - held, beside()
    await opened.close()
    entry = find(NAME)
    load = load_of(entry, Workload(quantize, tokens, engine="transformers"), "cuda")
    estimated = estimate(entry, load).total
    print(
        f"{quantize}, {len(prompt.ids)} tokens: {tensors / 1e6:.0f} MB of tensors and "
        f"{other / 1e6:.0f} beside, estimated {estimated / 1e6:.0f}"
    )
    assert tensors + other == pytest.approx(estimated, rel=0.15)


async def test_closing_gives_the_memory_back() -> None:
    import torch

    held = fresh_count()
    opened = on_the_card()
    await complete(opened, story(opened), GREEDY)
    assert torch.cuda.memory_allocated() - held > 0.45 * WHOLE
    await opened.close()
    assert torch.cuda.memory_allocated() - held < 0.15 * WHOLE


async def test_a_full_card_is_told_in_one_sentence(engine: TransformersEngine) -> None:
    import torch

    fresh_count()
    held = torch.cuda.memory_reserved() + 2**26
    torch.cuda.set_per_process_memory_fraction(held / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(NotEnoughMemory, match="quantize"):
            on_the_card()
        with pytest.raises(EngineError, match="ran out of memory"):
            await complete(engine, ask(engine, "word " * 8000), GREEDY)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (
        "Paris"
        in (await complete(engine, ask(engine, "What is the capital of France?"), GREEDY))[0]
    )


@pytest.mark.parametrize("quantize", [None, "int4"])
async def test_an_adapter_learns_and_then_answers(
    engine: TransformersEngine, tmp_path: Path, quantize: str | None
) -> None:
    losses = train(engine.template, Lesson(quantize), tmp_path / "adapter")
    print(f"{quantize or 'bf16'} LoRA: loss {losses[0]:.3f} to {losses[-1]:.3f}")
    assert losses[-1] < losses[0] / 2
    tuned = open_engine(str(tmp_path / "adapter"), LoadOptions(quantize))
    assert isinstance(tuned, TransformersEngine)
    text, _ = await complete(tuned, build_prompt(tuned.template, TAUGHT[:1]), GREEDY)
    assert text == TAUGHT[1].content
    await tuned.close()


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_estimate_holds_what_training_held(
    engine: TransformersEngine, beside: Callable[[], int], tmp_path: Path, method: Method
) -> None:
    held = fresh_count()
    quantize = "int4" if method == "qlora" else None
    train(engine.template, Lesson(quantize, steps=3, length=1024), tmp_path / "adapter")
    tensors, other = peak() - held, beside()
    estimated = estimate_training(find(NAME), Training(method, length=1024), "cuda").total
    print(
        f"{method}: {tensors / 1e6:.0f} MB of tensors and {other / 1e6:.0f} beside, "
        f"estimated {estimated / 1e6:.0f}"
    )
    assert tensors + other == pytest.approx(estimated, rel=0.15)


@dataclass(frozen=True)
class Lesson:
    """How an adapter is trained here: on one conversation, again and again.

    Args:
        quantize: 4-bit weights below the adapter, or None.
        steps: how many steps.
        length: tokens of an example that repeats the conversation, with gradient checkpointing;
            0 for the conversation itself.
    """

    quantize: str | None
    steps: int = 20
    length: int = 0


def train(template: ChatTemplate, lesson: Lesson, target: Path) -> list[float]:
    """Train an adapter and save it; give the loss of each step."""
    import torch

    ids, labels = example(template, lesson.length)
    model = with_adapter(lesson)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-3)
    losses = []
    for _ in range(lesson.steps):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    model.save_pretrained(target)
    return losses


def example(template: ChatTemplate, length: int) -> tuple[Any, Any]:
    import torch

    masked = template.mask(TAUGHT)
    times = -(-length // len(masked.ids)) or 1
    ids = torch.tensor([masked.ids * times], device="cuda")[:, : length or None]
    trained = torch.tensor([masked.trained * times], device="cuda")[:, : length or None]
    return ids, ids.masked_fill(~trained, -100)


def with_adapter(lesson: Lesson) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = load_weights(folder_of(find(NAME)).checkpoint, lesson.quantize)
    if lesson.length:
        base.config.use_cache = False
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    targets = list(find(NAME).lora_targets)
    model = get_peft_model(base, LoraConfig(r=16, target_modules=targets, task_type="CAUSAL_LM"))
    model.peft_config["default"].base_model_name_or_path = NAME
    return model.train()


def fresh_count() -> int:
    """Forget what earlier tests held at their peak; give the bytes that are held now."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak() -> int:
    """The most bytes that tensors held since the count was fresh."""
    import torch

    return torch.cuda.max_memory_allocated()
