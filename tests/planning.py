"""What must hold of every plan, whatever was said: invariant 4 of the design."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from chatkit.context import Budget, Item, Plan, Policy, Summary, plan
from chatkit.errors import PromptTooLong
from chatkit.messages import Message, Role, system
from chatkit.template import ChatTemplate

SPELLINGS = ("<|im_start|>", "<|im_end|>", "<|im_", "|>", "<", "[INST]", "[/INST]", "</s>", "<unk>")
SUMMARY_BEGINS = "Summary of the earlier conversation: "

texts = st.lists(
    st.sampled_from(SPELLINGS)
    | st.sampled_from(("the sea ", "\n\n", "  ", "Žluť 👍🏽 你好"))
    | st.text(max_size=8),
    min_size=1,
    max_size=8,
).map("".join)
questions = texts.filter(lambda text: bool(text.strip()))


@dataclass(frozen=True, slots=True)
class Asked:
    """All that `plan` is given, but for the template."""

    items: tuple[Item, ...]
    system: str | None
    budget: Budget
    policy: Policy
    summary: Summary | None


@st.composite
def asked(draw: st.DrawFn, *, plain: bool = False) -> Asked:
    """Draw a conversation and what to do about it.

    Args:
        draw: Hypothesis' own.
        plain: users and assistants in turn, and no system prompt.
    """
    roles = draw(_roles(plain))
    items = tuple(
        Item(f"m{n}", Message(role, draw(questions)), draw(st.integers(0, 19)) == 7)
        for n, role in enumerate(roles)
    )
    upto = st.sampled_from([item.id for item in items] + ["elsewhere"])
    # From nothing to more than the whole, counted in bytes and what templates add.
    whole = sum(len(item.message.content.encode()) + 12 for item in items) + 40
    answer = draw(st.integers(0, 60))
    return Asked(
        items,
        None if plain else draw(st.none() | questions),
        Budget(answer + whole * draw(st.sampled_from((1, 4, 6, 8, 10, 12, 16))) // 10, answer),
        draw(st.sampled_from(("sliding", "summarise", "summarise", "refuse"))),
        draw(st.none() | st.builds(Summary, st.just("s"), questions, upto)),
    )


def _roles(plain: bool) -> SearchStrategy[list[Role]]:
    if plain:
        exchange: list[Role] = ["user", "assistant"]
        return st.integers(0, 7).map(lambda n: [*exchange * n, "user"])
    answers: SearchStrategy[list[Role]] = st.lists(
        st.sampled_from(("assistant", "tool")), max_size=3
    )
    turn = answers.map(lambda said: ["user", *said])
    start = st.sampled_from(([], ["system"], ["assistant"], ["system", "assistant"]))
    turns = st.integers(0, 8).flatmap(lambda n: st.lists(turn, min_size=n, max_size=n))
    return st.builds(lambda first, rest: [*first, *chain(*rest), "user"], start, turns)


def check(template: ChatTemplate, asked: Asked) -> None:
    """Plan, and hold the plan or the refusal to everything that was promised."""
    try:
        made = plan(
            template,
            asked.items,
            system=asked.system,
            budget=asked.budget,
            policy=asked.policy,
            summary=asked.summary,
        )
    except PromptTooLong:
        least = asked.items if asked.policy == "refuse" else _least(asked)
        assert _size(template, asked, least) > asked.budget.window - asked.budget.answer
        return
    _check_prompt(template, asked, made)
    _check_turns(template, asked, made)
    _check_ledger(template, asked, made)
    _check_leaving(asked, made)


def _check_prompt(template: ChatTemplate, asked: Asked, made: Plan) -> None:
    prompt = made.prompt
    assert len(prompt.ids) + asked.budget.answer <= asked.budget.window
    assert prompt.ids == template.render(prompt.messages)
    assert prompt.text == template.text(prompt.messages)
    said = list(prompt.messages)
    sent = [item.message for item in asked.items if item.id in _with(made, "sent")]
    if len(said) > len(sent):
        head = said.pop(0)
        assert head.role == "system"
    texts = [message.content for message in said]
    assert len(said) == len(sent)
    assert all(message.content in text for message, text in zip(sent, texts, strict=True))
    if asked.system:
        assert head.content.split(f"\n\n{SUMMARY_BEGINS}")[0] == asked.system
    if "s" in _with(made, "sent"):
        assert asked.summary
        assert SUMMARY_BEGINS + asked.summary.text in prompt.messages[0].content
    else:
        assert texts == [message.content for message in sent]


def _check_turns(template: ChatTemplate, asked: Asked, made: Plan) -> None:
    sent = _with(made, "sent")
    turns = _turns(asked.items)
    for turn in turns:
        assert {item.id in sent for item in turn} in ({True}, {False})
    assert all(item.id in sent for item in _least(asked))
    may_leave = [turn for turn in turns if not _stays(asked, turn)]
    kept = [turn[0].id in sent for turn in may_leave]
    assert kept == sorted(kept), "the oldest leave first"
    if asked.policy == "refuse":
        assert all(kept)
    if False in kept and "s" not in sent:
        last = [turn for turn in may_leave if turn[0].id not in sent][-1]
        back = [item for item in asked.items if item.id in sent or item in last]
        assert _size(template, asked, back) > asked.budget.window - asked.budget.answer


def _check_ledger(template: ChatTemplate, asked: Asked, made: Plan) -> None:
    ledger = made.ledger
    assert ledger.prompt_tokens == len(made.prompt.ids)
    tokens = [line.tokens for line in ledger.lines if line.fate == "sent"]
    assert sum(tokens) + ledger.template_tokens == ledger.prompt_tokens
    assert ledger.template_tokens >= 0 and min(tokens) >= 0
    assert (ledger.policy, ledger.window, ledger.answer) == (
        asked.policy,
        asked.budget.window,
        asked.budget.answer,
    )
    lines = [line for line in ledger.lines if line.id not in ("system", "s")]
    assert [line.id for line in lines] == [item.id for item in asked.items]
    assert all(line.why for line in ledger.lines)
    for line, item in zip(lines, asked.items, strict=True):
        assert line.role == item.message.role
        assert line.neutralised == template.neutralised([item.message])
    assert ("system" in _with(made, "sent")) == bool(asked.system)


def _check_leaving(asked: Asked, made: Plan) -> None:
    leaving = [item.id for item in made.leaving]
    if asked.policy != "summarise":
        assert not leaving and not _with(made, "summarised")
    if leaving:
        assert set(leaving) >= set(_with(made, "left out")) - {"s"}
        assert not set(leaving) & {item.id for item in _turns(asked.items)[-1]}
        assert leaving == [item.id for item in asked.items if item.id in leaving]
    if _with(made, "summarised"):
        assert asked.summary
        ids = [item.id for item in asked.items]
        until = ids.index(asked.summary.upto)
        assert all(ids.index(id) <= until for id in _with(made, "summarised"))


def _with(made: Plan, fate: str) -> list[str]:
    return [line.id for line in made.ledger.lines if line.fate == fate]


def _turns(items: Sequence[Item]) -> list[list[Item]]:
    turns: list[list[Item]] = [[]]
    for item in items:
        if item.message.role == "user" and turns[-1]:
            turns.append([])
        turns[-1].append(item)
    return turns


def _stays(asked: Asked, turn: list[Item]) -> bool:
    marked = any(item.pinned or item.message.role == "system" for item in turn)
    return marked or turn[-1] is asked.items[-1]


def _least(asked: Asked) -> list[Item]:
    return [item for turn in _turns(asked.items) if _stays(asked, turn) for item in turn]


def _size(template: ChatTemplate, asked: Asked, items: Sequence[Item]) -> int:
    head = [system(asked.system)] if asked.system else []
    return len(template.render([*head, *(item.message for item in items)]))
