"""The model card: what the result is, in Markdown that hubs show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chatkit.finetuning.recipe import Recipe
from chatkit.finetuning.report import DataReport
from chatkit.loading.bases import Base

_EFFECTS = (
    "preference_accuracy_before",
    "preference_accuracy_after",
    "liked_change",
    "disliked_change",
    "kl_to_base",
    "unrelated_perplexity_before",
    "unrelated_perplexity_after",
    "teacher_loss",
    "gap_closed",
)
_METHODS = {
    "sft": "supervised fine-tuning",
    "dpo": "direct preference optimisation",
    "orpo": "odds ratio preference optimisation",
    "kto": "Kahneman-Tversky optimisation",
    "reward": "a reward model from pairs",
    "grpo": "reinforcement learning",
    "distill": "distillation",
}


def write_card(
    recipe: Recipe,
    base: Base,
    report: DataReport,
    figures: Sequence[Mapping[str, Any]],
    folder: Path,
) -> None:
    """Write `README.md` into the result's folder.

    Args:
        recipe: how it was made.
        base: from what.
        report: what became of the data.
        figures: lines of `metrics.jsonl`.
        folder: the result's.
    """
    (folder / "README.md").write_text(_text(recipe, base, report, figures, folder.name), "utf-8")


def _text(
    recipe: Recipe,
    base: Base,
    report: DataReport,
    figures: Sequence[Mapping[str, Any]],
    name: str,
) -> str:
    licence = base.entry.licence.name if base.entry else "see the base"
    kind = "all weights" if recipe.adapter.kind == "full" else f"{recipe.adapter.kind} adapter"
    library = "transformers" if recipe.adapter.kind == "full" else "peft"
    return f"""---
base_model: {base.public_name}
library_name: {library}
pipeline_tag: text-generation
tags: [chatkit, {recipe.method}, {recipe.adapter.kind}]
---

# {name}

{_METHODS[recipe.method].capitalize()} of `{base.public_name}`: {kind}, rank {recipe.adapter.rank}.
The base's licence ({licence}) goes for this too.

```python
import chatkit
chatkit.load("./{name}").chat().send("Hello")
```

## Data

{report.train} rows with {report.tokens:,} tokens, of which {report.trained_tokens:,} are trained;
{report.held_out} rows were held out. Refused: {len(report.refused)}; duplicates:
{report.duplicates}; too long: {len(report.too_long)}; cut: {report.cut}.

## Figures

{_table(figures)}

![losses](loss.png)

## Made by

`recipe.yaml` holds every option, `lineage.json` the checksums of data and base, the identity of the
template, versions, seeds and the machine. Loading it on another base or with another template is
refused.
"""


def _table(figures: Sequence[Mapping[str, Any]]) -> str:
    names = ("eval_loss", "eval_rewards/accuracies", "eval_accuracy", "reward", "loss")
    rows = ["| figure | first | last |", "|---|---|---|"]
    for name in names:
        values = [line[name] for line in figures if name in line]
        if values:
            rows.append(f"| {name} | {values[0]:.4g} | {values[-1]:.4g} |")
    effects = [name for name in _EFFECTS if name in figures[-1]]
    rows += [f"| {name.replace('_', ' ')} | | {figures[-1][name]:.4g} |" for name in effects]
    return "\n".join(rows)
