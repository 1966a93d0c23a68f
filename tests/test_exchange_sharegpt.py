"""ShareGPT, with the names that its many writers use."""

import io
import json
from typing import Any

import pytest

from chatkit.errors import ImportRefused
from chatkit.exchange.portable import Portable
from chatkit.exchange.reading import read_conversations
from chatkit.messages import ToolCall

TURNS = [
    {"from": "human", "value": "Name a river."},
    {"from": "gpt", "value": "The Loire."},
    {"from": "human", "value": "Another?"},
    {"from": "gpt", "value": "The Rhône."},
]


def read(*records: Any) -> tuple[Portable, ...]:
    return read_conversations(io.BytesIO(json.dumps(records).encode()))


def read_turns(*turns: dict[str, Any], **more: Any) -> Portable:
    (found,) = read({"conversations": list(turns), **more})
    return found


def test_turns_become_a_tree_without_branches() -> None:
    found = read_turns(*TURNS, id="river_0")
    assert found.id == "river_0"
    assert [(node.parent, node.message.role, node.message.content) for node in found.path()] == [
        (None, "user", "Name a river."),
        ("1", "assistant", "The Loire."),
        ("2", "user", "Another?"),
        ("3", "assistant", "The Rhône."),
    ]


@pytest.mark.parametrize("end", ["", "\n"])
def test_json_lines_are_read(end: str) -> None:
    lines = "\n".join(json.dumps({"id": n, "conversations": TURNS}) for n in range(3)) + end
    found = read_conversations(io.BytesIO(lines.encode()))
    assert [one.id for one in found] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"),
        ("User", "user"),
        ("gpt", "assistant"),
        ("chatgpt", "assistant"),
        ("assistant", "assistant"),
        ("observation", "tool"),
        ("tool", "tool"),
    ],
)
def test_every_name_of_a_speaker_has_its_role(name: str, role: str) -> None:
    (node,) = read_turns({"from": name, "value": "Hello"}).nodes
    assert node.message.role == role


def test_messages_with_role_and_content_are_read() -> None:
    (found,) = read({"messages": [{"role": "user", "content": "Hello"}]})
    assert found.nodes[0].message.content == "Hello"


def test_a_system_turn_at_the_beginning_becomes_the_system_prompt() -> None:
    found = read_turns({"from": "system", "value": "Be brief."}, *TURNS)
    assert found.system == "Be brief."
    assert found.nodes[0].message.role == "user"


def test_a_system_field_is_the_system_prompt() -> None:
    assert read_turns(*TURNS, system="Be brief.").system == "Be brief."


def test_a_call_in_json_becomes_a_tool_call() -> None:
    call = {"name": "weather", "arguments": {"city": "Lyon"}}
    found = read_turns(
        TURNS[0],
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "Rain"},
    )
    asked = found.nodes[1].message
    assert asked.tool_calls == (ToolCall("call-2", "weather", '{"city": "Lyon"}'),)
    assert asked.content == ""


@pytest.mark.parametrize("text", ["weather(Lyon)", '{"name": 1, "arguments": 2}', "[" * 5000])
def test_a_call_in_another_form_stays_text(text: str) -> None:
    asked = read_turns({"from": "function_call", "value": text}).nodes[0].message
    assert (asked.content, asked.tool_calls) == (text, ())


def test_the_title_is_the_given_one_or_the_first_words() -> None:
    assert read_turns(*TURNS, title="Rivers").title == "Rivers"
    assert read_turns(*TURNS).title == "Name a river."


def test_the_model_is_kept_with_the_answers() -> None:
    question, answer = read_turns(*TURNS[:2], model="vicuna").nodes
    assert answer.facts == {"status": "done", "model": "vicuna"}
    assert question.facts == {}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"from": "narrator", "value": "Once"}, "the speaker 'narrator' is unknown; use one of"),
        ({"from": "human"}, "it needs who speaks"),
        ({"value": "Hello"}, "it needs who speaks"),
        ({"from": "human", "value": None}, "'value' is null and not text"),
        ({"from": 3, "value": "Hello"}, "'from' is a number and not text"),
    ],
)
def test_a_turn_that_cannot_be_read_is_refused_with_its_place(
    turn: dict[str, Any], message: str
) -> None:
    with pytest.raises(ImportRefused, match=f"conversation 2, message '3': {message}"):
        read({"id": "a", "conversations": TURNS}, {"conversations": [*TURNS[:2], turn]})
