"""How much memory reading training data takes, as the data grows tenfold."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SMALL, LARGE = 100, 1_000
WORDS = [
    "tides",
    "bread",
    "chess",
    "volcanoes",
    "bees",
    "jazz",
    "glass",
    "maps",
    "tea",
    "rivers",
    "moon",
    "gardens",
    "sleep",
]

GATHER = """
import resource, sys
from pathlib import Path
from chatkit.finetuning.gathering import gather
from chatkit.finetuning.recipe import Recipe
from chatkit.loading.bases import find_base
recipe = Recipe.model_validate({
    "method": "sft", "base": "smollm2-135m", "output": "unused",
    "data": {"train": sys.argv[1], "longest": 4096, "duplicates": "exact"},
})
_, report = gather(recipe, find_base(recipe.base).template, Path(sys.argv[2]))
print(report.train + report.held_out, report.tokens)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def run() -> Iterator[str]:
    """Print the peak memory of reading, judging, masking and writing both sizes."""
    peaks = {}
    for size in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "rows.jsonl"
            write_rows(path, size)
            command = [sys.executable, "-c", GATHER, str(path), place]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, peak = done.stdout.splitlines()
        peaks[size] = float(peak)
        yield f"{size} MB: {rows.split()[0]} rows, peak memory {peaks[size]:.0f} MiB"
    yield f"ten times the data: {peaks[LARGE] / peaks[SMALL]:.2f}x the memory (target: flat)"


def write_rows(path: Path, megabytes: int) -> None:
    """Write chats of about two kilobytes until the file is large enough."""
    number = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            number += 1
            said = [WORDS[(number * step) % len(WORDS)] for step in range(1, 300)]
            messages = [
                {"role": "user", "content": f"Question {number} about {said[0]}?"},
                {"role": "assistant", "content": " ".join(said)},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
