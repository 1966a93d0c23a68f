"""The picture of a run: its losses, or what stands for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LINES = {
    "loss": "trained",
    "eval_loss": "held out",
    "rewards/accuracies": "pairs right",
    "eval_rewards/accuracies": "held-out pairs right",
    "reward": "reward",
}


def plot_losses(figures: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how figures changed with the steps.

    Args:
        figures: lines of `metrics.jsonl`.
        path: where the picture is written, as PNG.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=(7, 4), layout="constrained")
    losses = picture.subplots()
    shares = None
    for key, name in _LINES.items():
        points = [(line["step"], line[key]) for line in figures if key in line]
        if not points:
            continue
        axes = losses
        if key not in ("loss", "eval_loss"):
            shares = shares or losses.twinx()
            axes = shares
        marker = "o" if len(points) < 40 else None
        style = "-" if axes is losses else "--"
        axes.plot(*zip(*points, strict=True), style, label=name, marker=marker, markersize=3)
    losses.set_xlabel("step")
    losses.set_ylabel("loss")
    if shares is not None:
        shares.set_ylabel("share or reward")
    picture.legend(loc="outside upper center", ncols=5, frameon=False)
    losses.grid(alpha=0.3)
    picture.savefig(path, dpi=120)
