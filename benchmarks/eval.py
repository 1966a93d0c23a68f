"""Evaluation beside the peers: lm-eval's transformers backend, and a loop over `generate`."""

import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatkit.engines.opening import MANY, open_engine
from chatkit.evaluation.answering import EngineAnswering
from chatkit.evaluation.running import evaluate
from chatkit.evaluation.suite import read_suite
from chatkit.loading.bases import find_base

QUESTIONS, PROMPTS, ANSWER_TOKENS = 200, 100, 48
BATCHES, TRIAL = (1, 8, 32), 16
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
PLACES = (
    "in the old garden behind the house",
    "by the long river near the town",
    "under a stone bridge in the valley",
    "on the high hill above the village",
)
THINGS = ("tides", "bread", "chess", "volcanoes", "bees", "jazz", "glass", "maps", "tea", "rain")


def run() -> Iterator[str]:
    """Print how much quicker the same numbers come."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tasks(folder)
        for task, told in (
            ("words_fixed", "answers of several words, fixed 5-shot head (target 3x)"),
            ("words_random", "answers of several words, random 5-shot heads"),
            ("letters_fixed", "answers of one letter, fixed 5-shot head"),
        ):
            yield _choices(folder, task, told)
        yield _generation(folder)


def write_tasks(folder: Path) -> None:
    """Write multiple-choice tasks for lm-eval, with local data."""
    draw = random.Random(0)
    for name, count in (("test", QUESTIONS), ("shots", 40)):
        rows = []
        for n in range(count):
            who, right = draw.choice(NAMES), draw.randrange(4)
            said = f"{who} is {PLACES[right]}, and it is day {n}. Where is {who}?"
            listed = " ".join(f"{'ABCD'[i]}. {text}." for i, text in enumerate(PLACES))
            rows.append({"q": said, "listed": f"{said} {listed}", "gold": right})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    for name, column, choices, sampler in (
        ("words_fixed", "q", list(PLACES), "first_n"),
        ("words_random", "q", list(PLACES), "default"),
        ("letters_fixed", "listed", list("ABCD"), "first_n"),
    ):
        (folder / f"{name}.yaml").write_text(
            f"task: {name}\ndataset_path: json\n"
            f"dataset_kwargs: {{data_files: {{test: {folder}/test.jsonl, "
            f"train: {folder}/shots.jsonl}}}}\n"
            "test_split: test\nfewshot_split: train\noutput_type: multiple_choice\n"
            f'doc_to_text: "Question: {{{{{column}}}}}\\nAnswer:"\n'
            f"doc_to_choice: {json.dumps(choices)}\ndoc_to_target: gold\nnum_fewshot: 5\n"
            f"fewshot_config: {{sampler: {sampler}}}\nmetric_list: [{{metric: acc}}]\n"
        )


def _choices(folder: Path, task: str, told: str) -> str:
    from chatkit.evaluation.harness import EngineLM

    engine = open_engine("smollm2-135m@transformers")
    ours, mine = _timed(EngineLM(engine), folder, task, QUESTIONS)
    asyncio.run(engine.close())
    trials = {size: _timed(_peer(size), folder, task, TRIAL)[0] for size in BATCHES}
    best = min(trials, key=lambda size: trials[size])
    theirs, other = _timed(_peer(best), folder, task, QUESTIONS)
    farthest = max(abs(a - b) for a, b in zip(mine["chances"], other["chances"], strict=True))
    return (
        f"{QUESTIONS} questions, {told}: {theirs / ours:.2f}x "
        f"({ours:.0f} s against {theirs:.0f} s at batch {best}); accuracy {mine['acc']:.3f} and "
        f"{other['acc']:.3f}, log-likelihoods differ by {farthest:.1e} at most"
    )


def _peer(batch: int) -> Any:
    from lm_eval.models.huggingface import HFLM

    base = find_base("smollm2-135m")
    return HFLM(
        pretrained=str(base.checkpoint),
        tokenizer=str(base.tokenizer),
        dtype="float32",
        device="cpu",
        batch_size=batch,
    )


def _timed(model: Any, folder: Path, task: str, limit: int) -> tuple[float, dict[str, Any]]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder))
    began = time.perf_counter()
    found = simple_evaluate(
        model=model, tasks=[task], limit=limit, task_manager=manager, bootstrap_iters=0
    )
    seconds = time.perf_counter() - began
    assert found is not None
    samples = found["samples"][task]
    chances = [float(one[0][0]) for sample in samples for one in sample["resps"]]
    return seconds, {"acc": float(found["results"][task]["acc,none"]), "chances": chances}


def _generation(folder: Path) -> str:
    rows = [
        {"prompt": f"Write two sentences about {THINGS[n % 10]} and the number {n}."}
        for n in range(PROMPTS)
    ]
    (folder / "writing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "writing.yaml").write_text(
        "name: writing\ndata: writing.jsonl\nscorer: {kind: length, most: 200}\n"
        f"sampling: {{max_tokens: {ANSWER_TOKENS}}}\n"
    )
    questions = read_suite(folder / "writing.yaml")
    engine = open_engine("smollm2-135m", MANY)
    began = time.perf_counter()
    run_ = asyncio.run(
        evaluate(questions, "smollm2-135m", EngineAnswering(questions, engine), folder / "run")
    )
    ours = time.perf_counter() - began
    asyncio.run(engine.close())
    loop = _generate_loop([row["prompt"] for row in rows])
    return (
        f"{PROMPTS} prompts of {ANSWER_TOKENS} tokens at most: {loop / ours:.2f}x a loop over "
        f"transformers' generate ({ours:.0f} s against {loop:.0f} s; target 4x), "
        f"{len(run_.answers)} answered"
    )


def _generate_loop(prompts: list[str]) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = find_base("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(base.tokenizer)
    model = AutoModelForCausalLM.from_pretrained(base.checkpoint, dtype=torch.float32)
    began = time.perf_counter()
    for prompt in prompts:
        said = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(
            said, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            model.generate(
                input_ids=ids["input_ids"],
                attention_mask=ids["attention_mask"],
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
            )
    return time.perf_counter() - began
