"""The drawer of settings: the system prompt, how answers are drawn, what the model is."""

from collections.abc import Mapping
from typing import Any

from panel.pane import Str
from panel.viewable import Viewable
from panel_material_ui import Select, TextAreaInput, TextInput

from chatkit.errors import ChatkitError
from chatkit.sampling import Sampling
from chatkit.store.records import ConversationSettings, Policy
from chatkit.ui.model_facts import model_facts

MARGIN = (10, 16)
FACTS = (
    "pre { margin: 0; white-space: pre-wrap; font: 0.875rem/1.5 Roboto, system-ui, sans-serif; }"
)


class Drawer:
    """Widgets for the system prompt, the context policy and the sampling.

    An empty field is the model's own value.
    """

    def __init__(self) -> None:
        self._system = TextAreaInput(
            label="System prompt",
            rows=4,
            max_rows=12,
            auto_grow=True,
            margin=MARGIN,
            sizing_mode="stretch_width",
        )
        self._policy = Select(
            label="When a conversation outgrows the window",
            options={
                "Leave out the oldest turns": "sliding",
                "Summarise the oldest turns": "summarise",
                "Refuse to go on": "refuse",
            },
            size="small",
            margin=MARGIN,
            sizing_mode="stretch_width",
        )
        self._facts = Str(margin=MARGIN, sizing_mode="stretch_width", stylesheets=[FACTS])
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
    def policy(self) -> Policy:
        """What happens when a conversation outgrows the window."""
        policy: Policy = self._policy.value
        return policy

    def tell(self, model: str, speed: float | None = None) -> None:
        """Show what is known of a model.

        Args:
            model: its name, empty for none.
            speed: how many tokens a second it has written here lately.
        """
        try:
            known = model_facts(model) if model else ""
        except ChatkitError as error:
            known = str(error)
        lately = f"\nSpeed here lately: {speed:,.0f} tokens/s" if speed else ""
        self._facts.object = f"{known}{lately}"

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn.

        Raises:
            SamplingError: a value is no number or out of range.
        """
        typed = {name: str(field.value or "").strip() for name, field in self._fields.items()}
        return Sampling.model_validate({name: text or None for name, text in typed.items()})

    def show(self, settings: ConversationSettings, sampling: Mapping[str, Any]) -> None:
        """Show how a conversation is answered, and how answers were drawn."""
        self._system.value = settings.system or ""
        self._policy.value = settings.policy
        for name, field in self._fields.items():
            field.value = str(sampling.get(name, ""))

    @property
    def widgets(self) -> list[Viewable]:
        """All widgets, from top to bottom."""
        return [self._system, *self._fields.values(), self._policy, self._facts]


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
