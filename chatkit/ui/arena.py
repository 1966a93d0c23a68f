"""The arena: the same prompt to two to four models, side by side, and a vote on the answers."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

from chatkit.answering.checks import checked_text
from chatkit.answering.options import AnswerOptions
from chatkit.chat import ChatService
from chatkit.errors import InputError
from chatkit.shelf import Shown
from chatkit.store.records import VoteRecord
from chatkit.ui.bubble import Bubble, small_print
from chatkit.ui.follower import Follower
from chatkit.ui.screen import Controls

FEWEST, MOST = 2, 4


class Stage(Protocol):
    """Where the answers stand side by side."""

    def show_round(self, question: str, names: Sequence[str]) -> None:
        """Begin a round: a column for each model, by its name or by a letter."""

    def put(self, column: int, bubble: Bubble) -> None:
        """Show an answer anew."""

    def grow(self, column: int, bubble: Bubble, ended: str) -> None:
        """Add the HTML that has ended to an answer, and show its open tail anew."""

    def show_result(self, names: Sequence[str], best: int | None, notes: Sequence[str]) -> None:
        """Tell the names and the speeds, and which answer was found best."""


@dataclass(slots=True)
class _Column:
    """A model's answer.

    Args:
        model: its name.
        conversation: the temporary one in which it answers.
        follower: shows the answer.
    """

    model: str
    conversation: str
    follower: Follower


class _ColumnScreen:
    """A column, as a screen for one answer."""

    def __init__(self, stage: Stage, column: int) -> None:
        self._stage = stage
        self._column = column

    def put(self, bubble: Bubble) -> None:
        self._stage.put(self._column, bubble)

    def grow(self, bubble: Bubble, ended: str) -> None:
        self._stage.grow(self._column, bubble, ended)


class Arena:
    """One visitor's rounds, one at a time.

    Args:
        stage: where it is shown.
        offered: the models that may be asked; a browser can say any name.
        controls: tells the system prompt and how answers are drawn.
        opened: gives the chat service.
        draw: shuffles the models of a blind round.
    """

    def __init__(
        self,
        stage: Stage,
        offered: Sequence[str],
        controls: Controls,
        opened: Callable[[], Awaitable[ChatService]],
        draw: random.Random | None = None,
    ) -> None:
        self._stage = stage
        self._offered = frozenset(offered)
        self._controls = controls
        self._opened = opened
        self._draw = draw or random.Random()
        self._user = ""
        self._blind = False
        self._voted = False
        self._columns: list[_Column] = []

    def enter(self, user: str) -> None:
        """Say whose rounds these are."""
        self._user = user

    async def obey(self, message: Mapping[str, Any]) -> None:
        """Do what the visitor did in the arena.

        Raises:
            ChatkitError: it cannot be done.
        """
        match message:
            case {"do": "ask", "models": list(models), "text": str(text), "blind": bool(blind)}:
                await self._ask([str(model) for model in models], text, blind)
            case {"do": "stop"}:
                service = await self._opened()
                for column in self._columns:
                    answer = column.follower.bubble.id
                    await service.stop(self._user, column.conversation, answer)
            case {"do": "vote", "best": int() | None as best}:
                await self._vote(best)

    def close(self) -> None:
        """Show nothing more."""
        for column in self._columns:
            column.follower.close()
        self._columns = []

    async def _ask(self, models: list[str], text: str, blind: bool) -> None:
        if not FEWEST <= len(set(models)) <= MOST or len(set(models)) < len(models):
            raise InputError(f"Choose {FEWEST} to {MOST} models, each once.")
        if strange := sorted(set(models) - self._offered):
            raise InputError(f"{strange[0]} is not offered here; choose from the list.")
        text = checked_text(text)
        await self._forget()
        self._blind, self._voted = blind, False
        if blind:
            self._draw.shuffle(models)
        names = [f"Model {'ABCD'[place]}" for place in range(len(models))] if blind else models
        self._stage.show_round(text, names)
        for place, model in enumerate(models):
            self._columns.append(await self._begin(place, model, text))

    async def _forget(self) -> None:
        """Let the last round go; its conversations would stay in memory."""
        columns, service = self._columns, await self._opened()
        self.close()
        for column in columns:
            await service.delete(self._user, column.conversation)

    async def _begin(self, place: int, model: str, text: str) -> _Column:
        wish, service = self._controls.wish(), await self._opened()
        conversation = await service.begin(self._user, wish.settings, temporary=True)
        # Who compares wants every answer to be a real one.
        options = AnswerOptions(model, wish.sampling, cached=False)
        turn = await service.send(self._user, conversation, text, options)
        bubble = Bubble(turn.answer, "assistant", "queued")
        screen = _ColumnScreen(self._stage, place)
        screen.put(bubble)
        events = service.subscribe(self._user, conversation, turn.answer)
        follower = Follower(screen, bubble, "", events, lambda: self._ended(screen, bubble))
        return _Column(model, conversation, follower)

    def _ended(self, screen: _ColumnScreen, bubble: Bubble) -> None:
        if not bubble.pending:
            screen.put(bubble)

    async def _vote(self, best: int | None) -> None:
        """Store a vote of the best with each of the others, or ties where there is none."""
        if self._voted or not self._columns:
            raise InputError("There is nothing to vote on; ask something.")
        shown = [await self._answer(column) for column in self._columns]
        if any(one.node.facts is None or one.node.facts.status != "done" for one in shown):
            raise InputError("Not every answer is whole; wait for them, or ask again.")
        if best is not None and not 0 <= best < len(shown):
            raise InputError("There is no such answer; vote on one that is shown.")
        service = await self._opened()
        page = await service.page(self._user, self._columns[0].conversation)
        prompt = tuple(one.node.message for one in page.messages[:-1])
        for first, second in combinations(range(len(shown)), 2):
            if best is not None and best not in (first, second):
                continue
            vote = VoteRecord(
                prompt,
                self._columns[first].model,
                self._columns[second].model,
                shown[first].node.message.content,
                shown[second].node.message.content,
                0.5 if best is None else float(best == first),
                self._blind,
            )
            await service.vote(self._user, vote)
        self._voted = True
        notes = [small_print(one.node.facts) for one in shown if one.node.facts]
        self._stage.show_result([column.model for column in self._columns], best, notes)

    async def _answer(self, column: _Column) -> Shown:
        service = await self._opened()
        page = await service.page(self._user, column.conversation)
        return page.messages[-1]
