"""One template: what it renders, what it trains, and that text stays text."""

import json
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkit.engines.scripted import CHATML, byte_tokenizer
from chatkit.errors import InputError, TemplateError
from chatkit.messages import Message, ToolCall, assistant, system, user
from chatkit.prompt import build_prompt
from chatkit.template import ChatTemplate

LLAMA_STYLE = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
SPELLINGS = ["<|im_start|>", "<|im_end|>", "<|im_", "<|", "<", "im_end|>", "|>", ">"]


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    return ChatTemplate(byte_tokenizer())


def control_ids(template: ChatTemplate, ids: tuple[int, ...]) -> list[int]:
    control = {token.id for token in template.tokenizer.control.values()}
    return [id for id in ids if id in control]


def trained_text(template: ChatTemplate, messages: list[Message]) -> str:
    masked = template.mask(messages)
    chosen = [id for id, trained in zip(masked.ids, masked.trained, strict=True) if trained]
    spelled = {token.id: token.text for token in template.tokenizer.control.values()}
    runs = groupby(chosen, key=spelled.get)
    return "".join(
        control * len(list(run)) if control else template.tokenizer.decode(run)
        for control, run in runs
    )


def test_it_renders_what_the_jinja_says(template: ChatTemplate) -> None:
    text = template.text([system("Be brief."), user("Hi")])
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_ids_spell_the_text(template: ChatTemplate) -> None:
    ids = template.render([user("Žluť 👍")])
    assert template.tokenizer.decode(ids) == "user\nŽluť 👍\nassistant\n"
    assert len(control_ids(template, ids)) == 3


def test_without_an_answer_it_ends_after_the_last_turn(template: ChatTemplate) -> None:
    assert template.text([user("Hi")], answer=False).endswith("<|im_end|>\n")


dangerous = st.text(max_size=30) | st.lists(
    st.sampled_from(SPELLINGS) | st.text(max_size=3), max_size=8
).map("".join)


@pytest.mark.lengthy
@given(first=dangerous, reply=dangerous, last=dangerous)
@settings(max_examples=300)
def test_whatever_is_said_the_control_tokens_are_the_templates_own(
    template: ChatTemplate, first: str, reply: str, last: str
) -> None:
    harmless = template.render([user("a"), assistant("b"), user("c")])
    said = template.render([user(first), assistant(reply), user(last)])
    assert control_ids(template, said) == control_ids(template, harmless)


@pytest.mark.lengthy
@given(text=dangerous)
@settings(max_examples=300)
def test_whatever_is_said_arrives_as_it_was_said(template: ChatTemplate, text: str) -> None:
    ids = template.render([user(text)], answer=False)
    assert template.tokenizer.decode(ids) == f"user\n{text}\n"


@pytest.mark.lengthy
@given(question=dangerous, answer=dangerous, more=dangerous)
@settings(max_examples=300)
def test_exactly_the_answers_and_their_end_tokens_are_trained(
    template: ChatTemplate, question: str, answer: str, more: str
) -> None:
    said = [user(question), assistant(answer), user("and?"), assistant(more)]
    assert trained_text(template, said) == f"{answer}<|im_end|>{more}<|im_end|>"


def test_a_trimming_template_trains_the_trimmed_answer() -> None:
    template = ChatTemplate(byte_tokenizer(), LLAMA_STYLE)
    assert trained_text(template, [user("q"), assistant("  a b \n")]) == "a b <|im_end|>"


def test_a_conversation_without_answers_trains_nothing(template: ChatTemplate) -> None:
    assert not any(template.mask([user("Hi")]).trained)


def test_a_template_that_drops_an_answer_proves_no_mask() -> None:
    dropping = CHATML.replace("{{ message.content }}", "{{ message.content if loop.last }}")
    with pytest.raises(TemplateError, match="cannot be proved"):
        ChatTemplate(byte_tokenizer(), dropping).mask([user("a"), assistant("b"), user("c")])


def test_a_template_that_closes_no_turn_proves_no_mask() -> None:
    open_ended = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(TemplateError, match="learn to stop"):
        ChatTemplate(byte_tokenizer(), open_ended).mask([user("a"), assistant("b")])


def test_a_template_that_speaks_after_the_answer_proves_no_mask() -> None:
    chatty = CHATML.replace("<|im_end|>\n", " (over)<|im_end|>\n")
    with pytest.raises(TemplateError, match="after an answer"):
        ChatTemplate(byte_tokenizer(), chatty).mask([user("a"), assistant("b")])


def test_it_names_the_control_tokens_that_were_typed(template: ChatTemplate) -> None:
    assert template.neutralised([user("a <|im_end|> b")]) == ("<|im_end|>",)
    assert template.neutralised([user("a b")]) == ()


def test_the_identity_is_the_same_for_the_same_template(template: ChatTemplate) -> None:
    assert template.identity == ChatTemplate(byte_tokenizer()).identity
    assert len(str(template.identity)) == 16


@pytest.mark.parametrize(
    "other",
    [
        ChatTemplate(byte_tokenizer(), CHATML + " "),
        ChatTemplate(byte_tokenizer(ends=False)),
    ],
    ids=["another text", "another end token"],
)
def test_the_identity_changes_with(template: ChatTemplate, other: ChatTemplate) -> None:
    assert str(template.identity) != str(other.identity)


def test_the_identity_holds_the_default_system_prompt() -> None:
    default = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    )
    identity = ChatTemplate(byte_tokenizer(), default + CHATML).identity
    assert identity.default_system == "Be kind."


def test_a_broken_template_names_the_line() -> None:
    with pytest.raises(TemplateError, match="line 2"):
        ChatTemplate(byte_tokenizer(), "{% for m in messages %}\n{% oops %}")


def test_a_template_that_refuses_says_why() -> None:
    refusing = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(TemplateError, match="roles must alternate"):
        ChatTemplate(byte_tokenizer(), refusing).text([user("Hi")])


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_stays_in_its_sandbox(attack: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(byte_tokenizer(), attack).text([user("Hi")])


def test_a_model_without_a_template_says_so() -> None:
    bare = byte_tokenizer()
    bare.chat_template = None
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTemplate(bare)


def test_the_generation_block_renders_its_inside() -> None:
    marked = CHATML.replace(
        "{{ message.content }}", "{% generation %}{{ message.content }}{% endgeneration %}"
    )
    plain, blocked = ChatTemplate(byte_tokenizer()), ChatTemplate(byte_tokenizer(), marked)
    assert blocked.text([user("Hi")]) == plain.text([user("Hi")])


@pytest.mark.parametrize("messages", [[], [user(" \n")]], ids=["none", "blank"])
def test_a_prompt_needs_something_to_answer(
    template: ChatTemplate, messages: list[Message]
) -> None:
    with pytest.raises(InputError, match="empty"):
        build_prompt(template, messages)


def test_a_prompt_carries_every_form(template: ChatTemplate) -> None:
    prompt = build_prompt(template, [user("Hi")])
    assert prompt.ids == template.render([user("Hi")])
    assert prompt.text == template.text([user("Hi")])
    assert prompt.identity == str(template.identity)


CALLING = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}"
    "{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    "{% for call in m.tool_calls %}{{ '\n<call>' }}"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Not <|im_end|> yet.", "parameters": {}},
}
CALL = Message("assistant", "", tool_calls=(ToolCall("1", "weather", '{"city": "Lyon"}'),))
TALK = [user("Is it warm?"), CALL, Message("tool", "17 degrees"), assistant("Yes.")]


def test_what_an_assistant_calls_is_trained_with_its_answers() -> None:
    calling = ChatTemplate(byte_tokenizer(), CALLING)
    wanted = (
        '<call>{"name": "weather", "arguments": {"city": "Lyon"}}</call><|im_end|>Yes.<|im_end|>'
    )
    assert trained_text(calling, TALK) == wanted


def test_definitions_of_tools_reach_the_template_as_plain_text() -> None:
    calling = ChatTemplate(byte_tokenizer(), CALLING)
    with_tools = calling.rendering(TALK, tools=[WEATHER])
    without = calling.rendering(TALK)
    assert json.dumps(WEATHER) in with_tools.text and "Not" not in without.text
    # One system turn more, whose text spells a control token and is none.
    more = control_ids(calling, with_tools.ids)
    assert len(more) == len(control_ids(calling, without.ids)) + 2
    assert (
        calling.mask(TALK, [WEATHER]).ids
        == calling.rendering(TALK, answer=False, tools=[WEATHER]).ids
    )


def test_a_template_tells_whether_it_takes_tools(template: ChatTemplate) -> None:
    assert ChatTemplate(byte_tokenizer(), CALLING).takes_tools
    assert not template.takes_tools


def test_calls_that_the_template_turns_around_prove_no_mask() -> None:
    moving = ChatTemplate(byte_tokenizer(), "{{ messages | length }}" + CALLING)
    with pytest.raises(TemplateError, match="only adds to a chat"):
        moving.mask(TALK)
