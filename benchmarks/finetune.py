"""Our supervised fine-tuning beside a plain TRL script: tokens per second, memory, equal loss.

On a card, with a model of the shape of Llama 2 7B and random weights:

    python -m benchmarks.random_llama /tmp/random-7b
    CHATKIT_FINETUNE_BASE=/tmp/random-7b python -m benchmarks finetune
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from chatkit.finetuning.gathering import gather
from chatkit.finetuning.recipe import Recipe
from chatkit.loading.bases import find_base

REPEATS, STEPS, ROW_TOKENS, ROWS = 3, 8, 256, 4
BASE = os.environ.get("CHATKIT_FINETUNE_BASE", "smollm2-135m")
# What cards reach with dense bf16, by their makers' data sheets.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12}
SUBJECTS = ("tides", "bread", "chess", "volcanoes", "bees", "jazz", "glass", "maps", "tea")

OURS = """
import sys
from pathlib import Path
from benchmarks.finetune import measured, recipe_of
from chatkit.finetuning.run import run
recipe = recipe_of(Path(sys.argv[1]), "ours")
measured(lambda: run(recipe, say=lambda line: None).metrics["eval_loss"], Path(recipe.output))
"""

# A plain script as TRL's documentation has it: its defaults, checkpointing included.
PLAIN = """
import sys
from pathlib import Path
from benchmarks.finetune import measured, plain
measured(lambda: plain(Path(sys.argv[1])), Path(sys.argv[1]) / "plain")
"""


def run() -> Iterator[str]:
    """Print real tokens/s and peak memory as ratios, and the held-out loss of both."""
    with tempfile.TemporaryDirectory() as place:
        found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
        for number in range(REPEATS):
            folder = Path(place) / str(number)
            folder.mkdir()
            write_chats(folder / "chats.jsonl")
            for name, script in (("plain", PLAIN), ("ours", OURS)):
                found[name].append(_in_process(script, folder))
    speeds = [a["speed"] / b["speed"] for a, b in zip(found["ours"], found["plain"], strict=True)]
    memory = [a["memory"] / b["memory"] for a, b in zip(found["ours"], found["plain"], strict=True)]
    losses = [a["loss"] / b["loss"] for a, b in zip(found["ours"], found["plain"], strict=True)]
    ours, plain_ = (_medians(found[name]) for name in ("ours", "plain"))
    yield (
        f"real tokens/s: ours {ours['speed']:.0f}, plain SFTTrainer {plain_['speed']:.0f}, "
        f"{median(speeds):.2f}x (target at least 2)"
    )
    yield from _utilisation(ours["speed"])
    yield (
        f"peak memory: ours {ours['memory']:.0f} MiB, plain {plain_['memory']:.0f} MiB, "
        f"{median(memory):.2f}x (target at most 1)"
    )
    yield (
        f"held-out loss: ours {ours['loss']:.4f}, plain {plain_['loss']:.4f}, "
        f"{median(losses):.3f}x (target within 2 %)"
    )


def write_chats(path: Path) -> None:
    """Write short chats, as people have them."""
    with path.open("w") as file:
        for n in range(96):
            subject, other = SUBJECTS[n % 9], SUBJECTS[(n * 5 + 1) % 9]
            answer = f"{subject.capitalize()} and {other} are number {n}. Ask me more about them."
            messages = [
                {"role": "user", "content": f"What do you know about {subject} number {n}?"},
                {"role": "assistant", "content": answer * (1 + n % 3)},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")


def recipe_of(folder: Path, name: str) -> Recipe:
    """Give the recipe of both: the same data, adapter and tokens per step."""
    return Recipe.model_validate(
        {
            "method": "sft",
            "base": BASE,
            "output": str(folder / name),
            "data": {"train": str(folder / "chats.jsonl"), "longest": ROW_TOKENS},
            "train": {"steps": STEPS, "batch": ROWS, "learning_rate": 2e-4, "warmup": 0},
            "measure": {"every": 10_000, "questions": 0},
        }
    )


def plain(folder: Path) -> float:
    """Train with TRL as its documentation shows, on the same tokens and masks.

    A step has as many real tokens as ours: short chats, padded, instead of packed rows.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from torch import cuda
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from chatkit.finetuning.table import read_table

    recipe = recipe_of(folder, "plain")
    base = find_base(recipe.base)
    files, report = gather(recipe, base.template, folder / "data")
    columns = ["input_ids", "labels"]
    train = Dataset.from_list(list(read_table(files.train).select_columns(columns)))
    held_out = Dataset.from_list(list(read_table(files.held_out).select_columns(columns)))
    per_step = round(ROWS * ROW_TOKENS * 0.97 / (report.tokens / report.train))
    on_card = cuda.is_available()
    dtype = "bfloat16" if on_card else "float32"
    targets = list(base.entry.lora_targets) if base.entry else "all-linear"
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base.checkpoint, dtype=dtype),
        args=SFTConfig(
            output_dir=str(folder / "plain"),
            max_steps=STEPS,
            per_device_train_batch_size=per_step // 4,
            gradient_accumulation_steps=4,
            learning_rate=2e-4,
            lr_scheduler_type="cosine",
            bf16=on_card,
            use_cpu=not on_card,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            max_length=None,
        ),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=AutoTokenizer.from_pretrained(base.tokenizer),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=targets),
    )
    trainer.train()
    return float(trainer.evaluate()["eval_loss"])


def measured(train: Any, folder: Path) -> None:
    """Train, and print tokens per second of the steps, peak memory and the loss, as JSON."""
    import logging
    import time
    import warnings

    from transformers import Trainer

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    took: list[tuple[float, int]] = []
    step = Trainer.training_step

    def timed(self: Any, model: Any, inputs: Any, *more: Any) -> Any:
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask")
        began = time.perf_counter()
        loss = step(self, model, inputs, *more)
        took.append(
            (time.perf_counter() - began, int(mask.sum()) if mask is not None else ids.numel())
        )
        return loss

    Trainer.training_step = timed  # type: ignore[method-assign]
    loss = train()
    # The first step fills caches.
    seconds, tokens = (sum(column) for column in zip(*took[4:], strict=True))
    print(json.dumps({"speed": tokens / seconds, "memory": peak_memory(), "loss": loss}))


def peak_memory() -> float:
    """Give the most memory that this process ever held, on the card where there is one, in MiB."""
    import resource

    from torch import cuda

    if cuda.is_available():
        return cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _utilisation(speed: float) -> Iterator[str]:
    """Tell the share of a card's operations that training uses (Chowdhery 2022, appendix B).

    A frozen weight takes 4 operations per token: 2 forwards, 2 for the gradient that goes through.
    """
    from torch import cuda

    if not cuda.is_available():
        return
    card = cuda.get_device_name()
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in card), None)
    config = json.loads((find_base(BASE).checkpoint / "config.json").read_text())
    hidden, wide, layers = (
        config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    weights = layers * (4 * hidden * hidden + 3 * hidden * wide)
    if peak:
        yield f"{card}: {4 * weights * speed / peak:.1%} of its bf16 operations"


def _in_process(script: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}
