"""What the fine-tuning notebook shows: the coloured mask, the plan, and a loss that is alive."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkit.finetuning.output import METRICS
from chatkit.finetuning.planning import Plan
from chatkit.finetuning.plots import plot_losses
from chatkit.finetuning.preview import Preview
from chatkit.finetuning.verifying import Compared
from chatkit.hardware import memory_text
from chatkit.ui.notebook import Table

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

_TRAINED = "background: #1a7f37; color: white; border-radius: 3px; padding: 0 2px"
_READ = "opacity: 0.75"


@dataclass(frozen=True, slots=True)
class MaskedExamples:
    """Examples with what is trained marked: in colour in a notebook, in ⟦ ⟧ elsewhere.

    Args:
        preview: from `chatkit.finetuning.preview.preview`.
    """

    preview: Preview

    def _repr_html_(self) -> str:
        blocks = []
        for example in self.preview.examples:
            pieces = "".join(
                f"<span style='{_TRAINED if piece.trained else _READ}'>{escape(piece.text)}</span>"
                for piece in example.pieces
            )
            blocks.append(
                f"<p style='margin: 0.8em 0 0.2em'><b>{escape(example.origin)}</b></p>"
                f"<div style='white-space: pre-wrap; font-family: monospace'>{pieces}</div>"
            )
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.preview.summary())
        return "".join(blocks) + f"<ul style='margin-top: 1em'>{lines}</ul>"

    def __repr__(self) -> str:
        texts = [
            "".join(f"⟦{piece.text}⟧" if piece.trained else piece.text for piece in one.pieces)
            for one in self.preview.examples
        ]
        return "\n\n".join([*texts, "\n".join(self.preview.summary())])


class LiveLoss:
    """Takes a run's lines, and keeps one picture of its losses under the cell up to date.

    Args:
        folder: the run's output.
        every: after how many lines the picture is drawn again.
    """

    def __init__(self, folder: Path, every: int = 4) -> None:
        self._folder = folder
        self._every = every
        self._lines = 0
        self._shown: DisplayHandle | None = None

    def __call__(self, line: str) -> None:
        """Hear a line of the run."""
        self._lines += 1
        if self._lines % self._every == 0:
            self.draw()

    def draw(self) -> None:
        """Draw the losses as they are now."""
        from IPython.display import Image, display

        path = self._folder / METRICS
        if not path.exists():
            return
        figures: list[dict[str, Any]] = [
            json.loads(line) for line in path.read_text("utf-8").splitlines()
        ]
        picture = self._folder / "loss.png"
        plot_losses(figures, picture)
        image = Image(data=picture.read_bytes(), width=640)
        if self._shown is None:
            self._shown = display(image, display_id=True)
        else:
            self._shown.update(image)


def plan_table(plan: Plan) -> Table:
    """Show the memory of each way to run a recipe, part by part."""
    names = ("weights", "adapter", "gradients", "optimiser", "activations", "overhead", "total")
    rows = [
        [choice.method]
        + [memory_text(getattr(choice.needed, name)) for name in names]
        + ["fits" if choice.devices else "does not fit"]
        for choice in plan.choices
    ]
    return Table(["", *names, "here"], rows)


def verdicts(compared: Sequence[Compared]) -> Table:
    """Show how close each form of a result is to the adapter."""
    rows = [
        [
            one.form,
            f"{one.equal} of {one.asked}",
            "" if one.logits is None else f"{one.logits:.2g}",
            ", ".join(f"{parting.gap:.3f}" for parting in one.partings),
            "passes" if one.passes else "FAILS",
        ]
        for one in compared
    ]
    return Table(["form", "texts equal", "largest logit difference", "gaps in nats", ""], rows)
