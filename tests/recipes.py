"""Recipes and rows as the tests of fine-tuning use them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chatkit.finetuning.recipe import Recipe

ENDS = ("tides", "bread", "chess", "bees", "jazz", "glass", "maps", "tea", "rain", "salt")


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def talk(question: str, answer: str) -> dict[str, Any]:
    """Give one question with its answer."""
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def lessons(count: int = 20) -> list[dict[str, Any]]:
    """Teach a form: every answer begins with `Answer:`."""
    return [
        talk(f"Say {n} and {ENDS[n % 10]}.", f"Answer: {n} and {ENDS[n % 10]}")
        for n in range(count)
    ]


def recipe(train: Path, output: Path, **changes: Any) -> Recipe:
    """Make a recipe that runs in seconds; `data__longest` goes into the group `data`."""
    said: dict[str, Any] = {
        "method": "sft",
        "base": "smollm2-135m",
        "output": str(output),
        "data": {"train": str(train), "held_out": 0.2, "longest": 128},
        "adapter": {"rank": 4},
        "train": {"steps": 2, "batch": 2, "learning_rate": 1e-3},
        "measure": {"questions": 1, "answer_tokens": 4, "rows": 4},
    }
    for name, value in changes.items():
        *groups, last = name.split("__")
        place = said
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return Recipe.model_validate(said)
