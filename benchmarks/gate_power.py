"""Draws how often the gate passes, by the true difference: `python -m benchmarks.gate_power FILE`.

Every point is exact: the chances of all tables of gains and losses that pass are added up.
"""

import sys

from matplotlib.figure import Figure

from chatkit.stats.paired import power

MARGIN, ALPHA, DISCORDANT = 0.05, 0.05, 0.2
PAIRS = (50, 100, 200, 300)
COLOURS = ("#9ec1e8", "#6b9fd6", "#3b78bd", "#1f4e86")


def main() -> None:
    """Draw the curves into the file that is named."""
    picture = Figure(figsize=(8, 4), dpi=150, layout="constrained")
    axes = picture.subplots()
    gains = [points / 100 for points in range(-15, 11)]
    for pairs, colour in zip(PAIRS, COLOURS, strict=True):
        passes = [
            power(pairs, gain, discordant=max(DISCORDANT, abs(gain)), margin=MARGIN, alpha=ALPHA)
            for gain in gains
        ]
        axes.plot([100 * gain for gain in gains], passes, color=colour, label=f"{pairs} pairs")
    axes.axvline(-100 * MARGIN, color="#7d7d7d", linewidth=0.8)
    axes.axhline(ALPHA, color="#7d7d7d", linewidth=0.8, linestyle=":")
    axes.annotate("worse than the margin", (-100 * MARGIN - 0.3, 0.9), ha="right", color="#7d7d7d")
    axes.annotate("alpha", (-14.8, ALPHA + 0.02), color="#7d7d7d")
    axes.set_xlabel("true difference of the mean score, in points")
    axes.set_ylabel("how often the gate passes")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    picture.savefig(sys.argv[1])


if __name__ == "__main__":
    main()
