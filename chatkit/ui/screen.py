"""Where a conversation is shown, and where its visitor says how to be answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatkit.sampling import Sampling
from chatkit.store.records import ConversationSettings
from chatkit.ui.bubble import Bubble


@dataclass(frozen=True, slots=True)
class Wish:
    """How the visitor wants to be answered.

    Args:
        model: the name of the model.
        settings: the system prompt and what happens when the window is full.
        sampling: how answers are drawn.
    """

    model: str
    settings: ConversationSettings
    sampling: Sampling


class Controls(Protocol):
    """What the visitor sets beside the conversation."""

    def wish(self) -> Wish:
        """Tell how to answer, asked anew for each answer.

        Raises:
            InputError: there is no model, or a setting is none.
        """

    def show(self, settings: ConversationSettings, model: str, sampling: Mapping[str, Any]) -> None:
        """Show how a conversation was answered so far; an empty model leaves the one chosen."""


@dataclass(frozen=True, slots=True)
class View:
    """A conversation as it is to be on the page.

    Args:
        conversation: its name, empty before the first question.
        title: what the window is called, empty as long as there is no title.
        ids: the messages, oldest first.
        bubbles: those of them that are new or have changed.
        more: whether there are older ones.
        accepted: the sender's own name for what is stored by now, empty for nothing.
        temporary: whether it is in memory only.
        below: whether there are newer ones than those.
        head: the last message of the conversation, which the next question follows.
    """

    conversation: str
    title: str
    ids: Sequence[str]
    bubbles: Sequence[Bubble]
    more: bool
    accepted: str = ""
    temporary: bool = False
    below: bool = False
    head: str = ""


class Writing(Protocol):
    """Where an answer is shown while it is written."""

    def put(self, bubble: Bubble) -> None:
        """Show a message anew, when it is on the page."""

    def grow(self, bubble: Bubble, ended: str) -> None:
        """Add the HTML that has ended to a message, and show its open tail anew."""


class Screen(Writing, Protocol):
    """Where a conversation is shown."""

    def show_view(self, view: View) -> None:
        """Show these messages and no others."""

    def place(self, id: str, conversation: str) -> None:
        """Say in which new conversation the visitor's text belongs."""

    def counted(self, id: str, tokens: int) -> None:
        """Say how many tokens a file has."""

    def meter(self, used: int, window: int) -> None:
        """Say how full the model's window is; nothing is known when the window is 0."""

    def signed_out(self) -> None:
        """Leave the page: whose it was is not signed in any more."""

    def refuse(self, id: str, sentence: str) -> None:
        """Say why something that was sent is not stored."""

    def trouble(self, sentence: str) -> None:
        """Say what is wrong; nothing is when it is empty."""
