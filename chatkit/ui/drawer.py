"""The side drawer: the system prompt and how answers are drawn."""

import panel as pn
import panel_material_ui as pmui
from bokeh.models import CustomJSTickFormatter

from chatkit.sampling import Sampling

UNSET = "the model's own"
MARGIN = (10, 16)


class Drawer:
    """Widgets for the system prompt and the sampling; an empty field is the model's own value."""

    def __init__(self) -> None:
        self._system = pmui.TextAreaInput(
            label="System prompt",
            rows=4,
            max_rows=12,
            auto_grow=True,
            margin=MARGIN,
            sizing_mode="stretch_width",
        )
        self._temperature = _number("Temperature", "0 always takes the likeliest word", 0, 2, 0.1)
        self._top_p = _number("Top p", "keeps the likeliest words up to this share", 0.01, 1, 0.05)
        self._max_tokens = _count("Longest answer, in tokens", 1)
        self._seed = _count("Seed", 0)

    @property
    def system(self) -> str:
        """The system prompt, empty without one."""
        return str(self._system.value or "")

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn.

        Raises:
            SamplingError: a value is out of range.
        """
        return Sampling(
            temperature=self._temperature.value,
            top_p=self._top_p.value,
            max_tokens=self._max_tokens.value,
            seed=self._seed.value,
        )

    @property
    def widgets(self) -> list[pn.widgets.Widget]:
        """All widgets, from top to bottom."""
        return [self._system, self._temperature, self._top_p, self._max_tokens, self._seed]


def _number(label: str, help: str, least: float, most: float, step: float) -> pmui.FloatInput:
    return pmui.FloatInput(
        label=label,
        description=help,
        start=least,
        end=most,
        step=step,
        value=None,
        placeholder=UNSET,
        format=_as_typed(),
        size="small",
        margin=MARGIN,
        sizing_mode="stretch_width",
    )


def _count(label: str, least: int) -> pmui.IntInput:
    return pmui.IntInput(
        label=label,
        start=least,
        value=None,
        placeholder=UNSET,
        format=_as_typed(),
        size="small",
        margin=MARGIN,
        sizing_mode="stretch_width",
    )


def _as_typed() -> CustomJSTickFormatter:
    """Show a number as it is, and none as nothing: Panel's own format shows it as 0."""
    return CustomJSTickFormatter(code="return tick === null ? '' : String(tick)")
