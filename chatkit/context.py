"""What of a conversation fits into the model's window, planned before anything is asked."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chatkit.draft import SUMMARY, SYSTEM, Draft, Drafts, Item, Path, Summary, Turn
from chatkit.errors import PromptTooLong, TemplateError
from chatkit.ledger import Fate, Ledger, Line, Policy
from chatkit.messages import system as system_message
from chatkit.prompt import Prompt, check_question, rendered_prompt
from chatkit.template import ChatTemplate

__all__ = ["Budget", "Item", "Ledger", "Line", "Plan", "Policy", "Summary", "plan"]

_GUESSES = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """How much room there is, in tokens.

    Args:
        window: the model's window, prompt and answer together.
        answer: what is kept free for the answer.
    """

    window: int
    answer: int

    @property
    def room(self) -> int:
        """What the prompt may take."""
        return self.window - self.answer


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, and what became of each message.

    Args:
        prompt: ready to be asked.
        ledger: what went into it and what did not.
        leaving: under `summarise`, the messages that a new summary must cover beside what the
            old one says; empty when the prompt needs none.
    """

    prompt: Prompt
    ledger: Ledger
    leaving: tuple[Item, ...] = ()


def plan(
    template: ChatTemplate,
    items: Sequence[Item],
    *,
    system: str | None,
    budget: Budget,
    policy: Policy = "sliding",
    summary: Summary | None = None,
) -> Plan:
    """Fit a conversation into the window: whole turns leave, the oldest first, as few as can be.

    A turn is a user's message with everything up to the next one. The system prompt, turns with
    a pinned or a system message and the newest turn stay.

    Args:
        template: the model's template; what is planned is rendered by it and counted exactly.
        items: the path, from the first message to the newest question.
        system: the system prompt; None leaves it to the template.
        budget: the window, and what of it is kept for the answer.
        policy: `sliding` leaves turns out, `summarise` lets a summary stand for them, `refuse`
            leaves nothing out.
        summary: what was summarised before; used under `summarise` when it ends on this path.

    Raises:
        InputError: there is nothing to answer.
        PromptTooLong: what must stay does not fit.
        TemplateError: the template refuses the messages, or has no place for a system prompt.
    """
    check_question([item.message for item in items[-1:]])
    if system and not template.takes_system:
        raise TemplateError(
            "This model's chat template has no place for a system prompt; "
            "write it into the first question."
        )
    path = Path(template, items, system or None)
    if policy == "summarise" and summary is not None:
        drafts = Drafts(path, summary)
        # As long as all that it covers stays in the prompt by itself, it is not needed.
        if drafts.summarised:
            return _with_summary(drafts, budget, summary)
    drafts = Drafts(path)
    draft = _whole(drafts, budget) if policy == "refuse" else _fitted(drafts, budget)
    leaving = _leaving(drafts, draft, budget) if policy == "summarise" else ()
    return _Result(drafts, draft, budget, policy).plan(leaving)


def _with_summary(drafts: Drafts, budget: Budget, summary: Summary) -> Plan:
    try:
        draft = _fitted(drafts, budget)
    except PromptTooLong:
        # The question matters more than the summary.
        bare = Drafts(drafts.path)
        return _Result(bare, _fitted(bare, budget), budget, "summarise", summary).plan()
    leaving = _leaving(drafts, draft, budget)
    return _Result(drafts, draft, budget, "summarise", summary).plan(leaving)


def _whole(drafts: Drafts, budget: Budget) -> Draft:
    draft = drafts.write(0)
    if draft.tokens > budget.room:
        raise PromptTooLong(
            f"The conversation takes {draft.tokens} tokens, and the window of {budget.window} has "
            f"{max(0, budget.room)} beside the {budget.answer} kept for the answer; begin a new "
            "conversation, or let older turns leave (sliding or summarise)."
        )
    return draft


def _fitted(drafts: Drafts, budget: Budget) -> Draft:
    """Find the draft in which the fewest turns have left, trying as few as possible.

    Raises:
        PromptTooLong: it is too long with all of them gone.
        TemplateError: the template refuses the messages.
    """
    best: Draft | None = None
    too_few, enough = -1, len(drafts.movable) + 1
    beside, tries, tokens = drafts.usually_beside, 0, 0
    while enough - too_few > 1:
        guess = drafts.fewest(budget.room, beside)
        left = guess if tries < _GUESSES else (too_few + enough) // 2
        left = min(max(left, too_few + 1), enough - 1)
        tries += 1
        try:
            draft = drafts.write(left)
        except TemplateError:
            if best is None:
                raise
            too_few = left
            continue
        if draft.tokens <= budget.room:
            best, enough = draft, left
            # Most often it is plain that one turn more is too much, and no draft need prove it.
            if draft.tokens + drafts.surely_adds(left) > budget.room:
                break
        else:
            too_few, tokens = left, draft.tokens
        beside = drafts.beside(draft)
    if best is None:
        raise PromptTooLong(
            f"The question and what must stay with it take {tokens} tokens, and the window of "
            f"{budget.window} has {max(0, budget.room)} beside the {budget.answer} kept for the "
            "answer; shorten the question, unpin messages, or ask for a shorter answer."
        )
    return best


def _leaving(drafts: Drafts, draft: Draft, budget: Budget) -> tuple[Item, ...]:
    """Name what a summary must cover so that about half of the room is free again.

    Pinned turns in between are covered too: they stay, but one that is unpinned later must be
    in the summary that then stands for it.
    """
    if not draft.left:
        return ()
    wanted = drafts.fewest(budget.room // 2, drafts.beside(draft))
    last = drafts.movable[min(max(wanted, draft.left), len(drafts.movable)) - 1]
    turns = drafts.path.turns[drafts.covered : last + 1]
    items = drafts.path.items
    return tuple(item for turn in turns if not turn.system for item in items[turn.start : turn.end])


@dataclass(frozen=True, slots=True)
class _Result:
    drafts: Drafts
    draft: Draft
    budget: Budget
    policy: Policy
    summary: Summary | None = None

    def plan(self, leaving: tuple[Item, ...] = ()) -> Plan:
        rendering = self.draft.rendering
        shares = self.drafts.shares(self.draft)
        ledger = Ledger(
            self.policy,
            self.budget.window,
            self.budget.answer,
            self.draft.tokens,
            self.draft.tokens - shares.total(),
            (*self._head(shares), *self._lines(shares)),
        )
        messages = [one.message for one in self.draft.said]
        prompt = rendered_prompt(self.drafts.path.template, messages, rendering)
        return Plan(prompt, ledger, leaving)

    def _head(self, shares: Counter[int]) -> Iterator[Line]:
        template, system = self.drafts.path.template, self.drafts.path.system
        if system:
            names = template.weigh(system_message(system)).neutralised
            yield Line("system", "system", shares[SYSTEM], "sent", "the system prompt stays", names)
        if self.summary:
            id, weight = self.summary.id, template.weigh(system_message(self.summary.text))
            if self.drafts.summary:
                why = "it stands for older turns"
                yield Line(id, "summary", shares[SUMMARY], "sent", why, weight.neutralised)
            else:
                why = "there was no room for it beside what must stay"
                yield Line(id, "summary", weight.tokens, "left out", why, weight.neutralised)

    def _lines(self, shares: Counter[int]) -> Iterator[Line]:
        path = self.drafts.path
        gone = self.drafts.gone(self.draft.left)
        for number, turn in enumerate(path.turns):
            fate: Fate = "sent"
            if number in gone:
                fate = "summarised" if number in self.drafts.summarised else "left out"
            why = _why(fate, turn, number == len(path.turns) - 1)
            for index in range(turn.start, turn.end):
                item, weight = path.items[index], path.weights[index]
                tokens = shares[index] if fate == "sent" else weight.tokens
                reason = "it is pinned" if item.pinned else why
                yield Line(item.id, item.message.role, tokens, fate, reason, weight.neutralised)


def _why(fate: Fate, turn: Turn, newest: bool) -> str:
    if fate == "summarised":
        return "the summary stands for it"
    if fate == "left out":
        return "the window is full, and the oldest turns leave first"
    if newest:
        return "the newest question stays"
    if turn.pinned:
        return "its turn has a pinned message"
    return "its turn has a system message" if turn.system else "it fits"
