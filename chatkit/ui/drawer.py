"""The side drawer: the system prompt and how answers are drawn."""

from collections.abc import Mapping
from typing import Any

from panel.viewable import Viewable
from panel_material_ui import TextAreaInput, TextInput

from chatkit.sampling import Sampling

MARGIN = (10, 16)


class Drawer:
    """Widgets for the system prompt and the sampling; an empty field is the model's own value."""

    def __init__(self) -> None:
        self._system = TextAreaInput(
            label="System prompt",
            rows=4,
            max_rows=12,
            auto_grow=True,
            margin=MARGIN,
            sizing_mode="stretch_width",
        )
        self._fields = {
            "temperature": _field("Temperature", "0 always takes the likeliest word."),
            "top_p": _field("Top p", "Keeps the likeliest words up to this share, 0 to 1."),
            "max_tokens": _field("Longest answer", "In tokens."),
            "seed": _field("Seed", "The same seed gives the same answer."),
        }

    @property
    def system(self) -> str:
        """The system prompt, empty without one."""
        return str(self._system.value or "")

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn.

        Raises:
            SamplingError: a value is no number or out of range.
        """
        typed = {name: str(field.value or "").strip() for name, field in self._fields.items()}
        return Sampling.model_validate({name: text or None for name, text in typed.items()})

    def show(self, system: str, sampling: Mapping[str, Any]) -> None:
        """Show a system prompt, and how answers were drawn."""
        self._system.value = system
        for name, field in self._fields.items():
            field.value = str(sampling.get(name, ""))

    @property
    def widgets(self) -> list[Viewable]:
        """All widgets, from top to bottom."""
        return [self._system, *self._fields.values()]


def _field(label: str, meaning: str) -> TextInput:
    """Make a field for a number: Panel's own number fields show an unset value as 0."""
    return TextInput(
        label=label,
        description=meaning,
        placeholder="the model's own",
        size="small",
        margin=MARGIN,
        sizing_mode="stretch_width",
    )
