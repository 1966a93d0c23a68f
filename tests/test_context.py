"""What fits into the window: which turns leave, which stay, and what the ledger says."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from planning import Asked, asked, check

from chatkit.context import Budget, Item, Ledger, Plan, Policy, Summary, plan
from chatkit.engines.scripted import CHATML, byte_tokenizer
from chatkit.errors import InputError, PromptTooLong, TemplateError
from chatkit.messages import Message, ToolCall, assistant, user
from chatkit.messages import system as system_message
from chatkit.rendering import Rendering
from chatkit.template import ChatTemplate

NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
) + CHATML
SILENT = "{% set messages = messages | selectattr('role', 'ne', 'system') | list %}" + CHATML
KIND = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    """One token for each byte, so that every number can be checked by hand."""
    return ChatTemplate(byte_tokenizer())


def talk(turns: int, *, pinned: tuple[str, ...] = ()) -> list[Item]:
    """Questions q0, q1 … of ten bytes with answers a0, a1 …, and a last question."""
    said = [
        message
        for n in range(turns)
        for message in (
            Item(f"q{n}", user(f"question {n}")),
            Item(f"a{n}", assistant("answer 123")),
        )
    ]
    said.append(Item("last", user("question !")))
    return [Item(one.id, one.message, one.id in pinned) for one in said]


def size(template: ChatTemplate, items: list[Item], system: str | None = None) -> int:
    head = [system_message(system)] if system else []
    return len(template.render([*head, *(item.message for item in items)]))


def make(
    template: ChatTemplate,
    items: list[Item],
    room: int,
    policy: Policy = "sliding",
    *,
    system: str | None = None,
    summary: Summary | None = None,
) -> Plan:
    budget = Budget(room + 100, 100)
    return plan(template, items, system=system, budget=budget, policy=policy, summary=summary)


def with_fate(made: Plan, fate: str) -> list[str]:
    return [line.id for line in made.ledger.lines if line.fate == fate]


def reason(made: Plan, id: str) -> str:
    (line,) = (line for line in made.ledger.lines if line.id == id)
    return line.why


def test_a_conversation_that_fits_goes_in_whole(template: ChatTemplate) -> None:
    items = talk(5)
    made = make(template, items, size(template, items))
    assert [*made.prompt.messages] == [item.message for item in items]
    assert with_fate(made, "sent") == [item.id for item in items]


def test_one_token_less_and_the_oldest_turn_leaves(template: ChatTemplate) -> None:
    items = talk(5)
    made = make(template, items, size(template, items) - 1)
    assert with_fate(made, "left out") == ["q0", "a0"]
    assert [*made.prompt.messages] == [item.message for item in items[2:]]
    assert "oldest turns leave first" in reason(made, "q0")


def test_as_few_turns_leave_as_can_be(template: ChatTemplate) -> None:
    items = talk(100)
    made = make(template, items, size(template, items[-41:]))
    assert with_fate(made, "sent") == [item.id for item in items[-41:]]


def test_a_pinned_message_keeps_its_turn(template: ChatTemplate) -> None:
    items = talk(5, pinned=("a0",))
    made = make(template, items, size(template, items) - 1)
    assert with_fate(made, "left out") == ["q1", "a1"]
    assert reason(made, "a0") == "it is pinned"
    assert reason(made, "q0") == "its turn has a pinned message"


def test_the_system_prompt_goes_first_and_stays(template: ChatTemplate) -> None:
    items = talk(5)
    made = make(template, items, size(template, items), system="Be brief.")
    assert made.prompt.messages[0] == system_message("Be brief.")
    assert with_fate(made, "left out") == ["q0", "a0"]
    assert made.ledger.lines[0].id == "system"


def test_a_system_message_on_the_path_stays(template: ChatTemplate) -> None:
    items = [Item("s", system_message("Be brief.")), *talk(5)]
    made = make(template, items, size(template, items) - 1)
    assert with_fate(made, "left out") == ["q0", "a0"]


def test_a_greeting_before_the_first_question_leaves_first(template: ChatTemplate) -> None:
    items = [Item("hello", assistant("Hello!")), *talk(3)]
    made = make(template, items, size(template, items) - 1)
    assert with_fate(made, "left out") == ["hello"]


def test_an_answer_with_tool_calls_leaves_with_its_question(template: ChatTemplate) -> None:
    call = Message("assistant", "", None, (ToolCall("1", "look", '{"at": "sea"}'),))
    looked = [Item("q", user("look")), Item("c", call), Item("t", Message("tool", "blue"))]
    items = [*looked, Item("a", assistant("It is blue.")), *talk(1)]
    made = make(template, items, size(template, items) - 1)
    assert with_fate(made, "left out") == ["q", "c", "t", "a"]


def test_refuse_leaves_nothing_out_and_says_the_numbers(template: ChatTemplate) -> None:
    items = talk(5)
    room = size(template, items)
    assert len(with_fate(make(template, items, room, "refuse"), "sent")) == len(items)
    with pytest.raises(
        PromptTooLong, match=rf"takes {room} tokens.* has {room - 1} beside the 100"
    ):
        make(template, items, room - 1, "refuse")


@pytest.mark.parametrize("policy", ["sliding", "summarise"])
def test_a_question_that_is_too_long_by_itself_says_the_numbers(
    template: ChatTemplate, policy: Policy
) -> None:
    items = talk(5, pinned=("q2",))
    least = size(template, [*items[4:6], items[-1]], "Be brief.")
    assert make(template, items, least, policy, system="Be brief.").ledger.prompt_tokens == least
    with pytest.raises(PromptTooLong, match=rf"take {least} tokens.*unpin"):
        make(template, items, least - 1, policy, system="Be brief.")


def test_an_answer_as_large_as_the_window_leaves_no_room(template: ChatTemplate) -> None:
    with pytest.raises(PromptTooLong, match="has 0 beside the 500"):
        plan(template, talk(0), system=None, budget=Budget(400, 500))


@pytest.mark.parametrize("items", [[], [Item("q", user(" \n"))]], ids=["none", "blank"])
def test_a_plan_needs_a_question(template: ChatTemplate, items: list[Item]) -> None:
    with pytest.raises(InputError, match="empty"):
        make(template, items, 1000)


def test_what_the_template_refuses_is_refused(template: ChatTemplate) -> None:
    refusing = ChatTemplate(byte_tokenizer(), "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(TemplateError, match="alternate"):
        make(refusing, talk(1), 1000)


@pytest.mark.parametrize("source", [NO_SYSTEM, SILENT], ids=["refuses", "drops"])
def test_a_system_prompt_without_a_place_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match="no place for a system prompt"):
        make(ChatTemplate(byte_tokenizer(), source), talk(1), 1000, system="Be brief.")


def test_an_old_turn_that_the_template_refuses_may_leave() -> None:
    alternating = (
        "{% for m in messages %}{% if not loop.first and m.role == loop.previtem.role %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
    )
    template = ChatTemplate(byte_tokenizer(), alternating + CHATML)
    items = [Item("unanswered", user("question ?")), *talk(5)]
    with pytest.raises(TemplateError, match="alternate"):
        make(template, items, 1000)
    made = make(template, items, size(template, items[1:]))
    assert with_fate(made, "left out") == ["unanswered"]


@pytest.mark.lengthy
def test_trimmed_white_space_costs_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    trimming = ChatTemplate(byte_tokenizer(), CHATML.replace("content }}", "content | trim }}"))
    items = [
        Item(one.id, replace(one.message, content=f"{one.message.content:200}"))
        for one in talk(400)
    ]
    room, drafts = size(trimming, items[400:]), 0
    rendering = trimming.rendering

    def counted(messages: Sequence[Message]) -> Rendering:
        nonlocal drafts
        drafts += 1
        return rendering(messages)

    monkeypatch.setattr(trimming, "rendering", counted)
    made = make(trimming, items, room)
    assert with_fate(made, "sent") == [item.id for item in items[400:]]
    assert drafts < 15, "found by halving, not step by step"


def test_summarise_names_what_must_be_summarised_to_halve_the_prompt(
    template: ChatTemplate,
) -> None:
    items = talk(20)
    room = size(template, items) - 1
    made = make(template, items, room, "summarise")
    left = [item for item in items if item not in made.leaving]
    assert [*made.leaving] == items[: len(made.leaving)]
    assert size(template, left) <= room // 2 < size(template, items[len(made.leaving) - 2 :])
    assert with_fate(made, "left out") == ["q0", "a0"], "asked as it is, it slides"


def test_a_summary_stands_for_what_it_covers(template: ChatTemplate) -> None:
    items, summary = talk(4), Summary("s", "They talked.", "a1")
    made = make(template, items, 1000, "summarise", system="Be brief.", summary=summary)
    head = "Be brief.\n\nSummary of the earlier conversation: They talked."
    assert made.prompt.messages == (
        system_message(head),
        *(item.message for item in items[4:]),
    )
    assert with_fate(made, "summarised") == ["q0", "a0", "q1", "a1"]
    assert not made.leaving


def test_the_ledger_tells_the_summary_from_the_system_prompt(template: ChatTemplate) -> None:
    summary = Summary("s", "They talked.", "a1")
    made = make(template, talk(4), 1000, "summarise", system="Be brief.", summary=summary)
    system, summed = made.ledger.lines[:2]
    assert (system.id, system.tokens) == ("system", len("Be brief."))
    assert (summed.id, summed.role) == ("s", "summary")
    assert summed.tokens == len("Summary of the earlier conversation: They talked.")


def test_a_summary_joins_a_system_message_of_the_path(template: ChatTemplate) -> None:
    items = [Item("root", system_message("Be brief.")), *talk(3)]
    summary = Summary("s", "They talked.", "a0")
    made = make(template, items, 1000, "summarise", summary=summary)
    assert made.prompt.messages[0].content.startswith("Be brief.\n\nSummary")
    assert made.prompt.messages[1] == items[3].message


def test_a_summary_keeps_what_the_template_says_by_itself() -> None:
    template = ChatTemplate(byte_tokenizer(), KIND + CHATML)
    made = make(template, talk(3), 1000, "summarise", summary=Summary("s", "Seen.", "a0"))
    assert made.prompt.text.startswith("<|im_start|>system\nBe kind.\n\nSummary of the")
    sent = [line.tokens for line in made.ledger.lines if line.fate == "sent"]
    assert sent[0] == len("Summary of the earlier conversation: Seen.")
    assert sum(sent) + made.ledger.template_tokens == made.ledger.prompt_tokens


def test_without_a_place_for_it_the_summary_goes_before_the_first_question() -> None:
    template = ChatTemplate(byte_tokenizer(), NO_SYSTEM)
    made = make(template, talk(3), 1000, "summarise", summary=Summary("s", "Seen.", "a0"))
    first = made.prompt.messages[0]
    assert first == user("Summary of the earlier conversation: Seen.\n\nquestion 1")
    tokens = {line.id: line.tokens for line in made.ledger.lines}
    assert (tokens["s"], tokens["q1"]) == (42, 10)


def test_a_summary_of_another_branch_is_left_aside(template: ChatTemplate) -> None:
    made = make(template, talk(3), 1000, "summarise", summary=Summary("s", "Seen.", "gone"))
    assert len(with_fate(made, "sent")) == 7
    assert "s" not in [line.id for line in made.ledger.lines]


def test_a_summary_covers_whole_turns_only(template: ChatTemplate) -> None:
    made = make(template, talk(3), 1000, "summarise", summary=Summary("s", "Seen.", "q1"))
    assert with_fate(made, "summarised") == ["q0", "a0"]


def test_the_newest_turn_is_never_summarised(template: ChatTemplate) -> None:
    made = make(template, talk(2), 1000, "summarise", summary=Summary("s", "Seen.", "last"))
    assert with_fate(made, "summarised") == ["q0", "a0", "q1", "a1"]
    assert with_fate(made, "sent") == ["s", "last"]


def test_only_the_policy_summarise_uses_a_summary(template: ChatTemplate) -> None:
    made = make(template, talk(3), 1000, "sliding", summary=Summary("s", "Seen.", "a1"))
    assert with_fate(made, "summarised") == []
    assert len(made.prompt.messages) == 7


def test_pinned_turns_are_sent_and_summarised_too(template: ChatTemplate) -> None:
    items = talk(20, pinned=("q1",))
    made = make(template, items, size(template, items) - 1, "summarise")
    assert [*made.leaving] == items[: len(made.leaving)]
    summary = Summary("s", "Seen.", made.leaving[-1].id)
    again = make(template, items, 1000, "summarise", summary=summary)
    assert {"q1", "a1"} <= set(with_fate(again, "sent"))


def test_a_summary_that_grew_old_is_followed_by_the_next_turns(template: ChatTemplate) -> None:
    items, summary = talk(20), Summary("s", "Seen.", "a4")
    room = size(template, items[10:])
    made = make(template, items, room, "summarise", summary=summary)
    assert made.leaving[0].id == "q5"
    assert "s" in with_fate(made, "sent")


def test_a_summary_without_room_is_left_out_openly(template: ChatTemplate) -> None:
    items, summary = talk(5), Summary("s", 500 * "long ", "a3")
    made = make(template, items, size(template, items[-3:]), "summarise", summary=summary)
    assert with_fate(made, "sent") == ["q4", "a4", "last"]
    assert "no room" in reason(made, "s")
    assert not made.leaving


def test_the_ledger_counts_the_tokens_of_each_message(template: ChatTemplate) -> None:
    items = talk(2)
    made = make(template, items, size(template, items) - 1)
    assert [line.tokens for line in made.ledger.lines] == [10, 10, 10, 10, 10]
    assert made.ledger.template_tokens == made.ledger.prompt_tokens - 30


def test_the_ledger_counts_reasoning_and_tool_calls_as_the_messages_own() -> None:
    source = CHATML.replace(
        "{{ message.content }}",
        "{{ message.reasoning_content }}{{ message.content }}"
        "{% for call in message.tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}",
    )
    calling = Message("assistant", "abc", None, (ToolCall("1", "f", "12345"),), "thought")
    items = [Item("q", user("q")), Item("a", calling), Item("last", user("again"))]
    template = ChatTemplate(byte_tokenizer(), source)
    sent = make(template, items, 1000)
    assert [line.tokens for line in sent.ledger.lines] == [1, 15, 5]
    left = make(template, items, size(template, items) - 1)
    assert [line.tokens for line in left.ledger.lines] == [1, 15, 5]


def test_the_ledger_gives_no_tokens_to_what_the_template_drops() -> None:
    last_only = CHATML.replace("in messages", "in messages[-1:]")
    made = make(ChatTemplate(byte_tokenizer(), last_only), talk(1), 1000)
    assert [line.tokens for line in made.ledger.lines] == [0, 0, 10]


def test_the_ledger_names_control_tokens_that_went_in_as_text(template: ChatTemplate) -> None:
    items = [Item("q", user("Is <|im_end|> a token?"))]
    made = make(template, items, 1000, system="Say <|im_start|>.")
    assert [line.neutralised for line in made.ledger.lines] == [
        ("<|im_start|>",),
        ("<|im_end|>",),
    ]


def test_the_ledger_comes_back_from_json(template: ChatTemplate) -> None:
    items = [Item("q", user("<|im_end|>")), *talk(5, pinned=("q1",))]
    summary = Summary("s", "Seen.", "a0")
    room = size(template, items[5:])
    ledger = make(template, items, room, "summarise", system="x", summary=summary).ledger
    assert {line.fate for line in ledger.lines} == {"sent", "left out", "summarised"}
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger


@pytest.mark.parametrize("value", [{}, {"lines": 3}, {"lines": [{"messages": [{"id": "a"}]}]}])
def test_what_is_no_ledger_is_refused(value: dict[str, object]) -> None:
    whole = dict.fromkeys(("policy", "window", "answer", "prompt_tokens", "template_tokens"), 1)
    with pytest.raises(InputError, match="not a ledger"):
        Ledger.from_json(value and whole | value)


def test_what_was_said_before_is_not_encoded_again(
    template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = talk(50)
    first = make(template, items, 900)

    def encode(text: str, begins: bool) -> None:
        raise AssertionError(f"{text!r} was encoded again")

    monkeypatch.setattr(template.tokenizer, "_encode", encode)
    assert make(template, items, 900) == first
    template.forget()
    with pytest.raises(AssertionError, match="encoded again"):
        make(template, items, 900)


@pytest.mark.lengthy
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(asked())
def test_no_plan_overflows_or_cuts_a_turn(template: ChatTemplate, asked: Asked) -> None:
    check(template, asked)
