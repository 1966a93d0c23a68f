"""Conversations as Markdown for people, and as lines of messages for trainers."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.exchange.markdown import write_markdown
from chatkit.exchange.portable import Portable, PortableNode
from chatkit.exchange.reading import read_conversations
from chatkit.exchange.training import write_messages_jsonl
from chatkit.messages import Message, ToolCall

MORNING = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


def node(id: str, parent: str | None, role: str, text: str, **more: Any) -> PortableNode:
    return PortableNode(id, parent, Message(role, text), MORNING, **more)


def talk(*nodes: PortableNode, head: str | None = "", system: str | None = None) -> Portable:
    head = (nodes[-1].id if nodes else None) if head == "" else head
    return Portable("tides", "Tides", MORNING, MORNING, system, {}, head, None, nodes)


def chain(*texts: str, **facts: Any) -> list[PortableNode]:
    """Questions and answers in turn; the facts are those of the last one."""
    last = len(texts) - 1
    return [
        node(
            str(n),
            str(n - 1) if n else None,
            "assistant" if n % 2 else "user",
            text,
            facts=facts if n == last else {},
        )
        for n, text in enumerate(texts)
    ]


def lines(*conversations: Portable) -> list[dict[str, Any]]:
    file = io.StringIO()
    write_messages_jsonl(conversations, file)
    return [json.loads(line) for line in file.getvalue().split("\n") if line]


def markdown(conversation: Portable) -> str:
    file = io.StringIO()
    write_markdown(conversation, file)
    return file.getvalue()


def test_a_line_holds_the_path_to_the_head_with_where_it_came_from() -> None:
    branches = [*chain("Why tides?", "The moon."), node("other", "0", "assistant", "No idea.")]
    assert lines(talk(*branches, head="1")) == [
        {
            "messages": [
                {"role": "user", "content": "Why tides?"},
                {"role": "assistant", "content": "The moon."},
            ],
            "conversation": "tides",
            "nodes": ["0", "1"],
        }
    ]


def test_the_system_prompt_goes_first() -> None:
    (line,) = lines(talk(*chain("Why?", "So."), system="Be brief."))
    assert line["messages"][0] == {"role": "system", "content": "Be brief."}
    assert line["nodes"] == ["0", "1"]


def test_two_system_prompts_become_one() -> None:
    said = [node("s", None, "system", "Be kind."), node("a", "s", "assistant", "Hello.")]
    (line,) = lines(talk(*said, system="Be brief."))
    assert line["messages"][0]["content"] == "Be brief.\n\nBe kind."


def test_a_question_without_answer_is_left_out() -> None:
    (line,) = lines(talk(*chain("Why?", "So.", "And?")))
    assert line["nodes"] == ["0", "1"]


@pytest.mark.parametrize(
    "facts",
    [
        {"status": "stopped"},
        {"status": "failed"},
        {"status": "interrupted"},
        {"status": "running"},
        {"status": "done", "finish": "length"},
    ],
)
def test_from_an_unfinished_answer_on_nothing_is_trained(facts: dict[str, Any]) -> None:
    nodes = chain("Why?", "So.", "And?", "Beca", **facts)
    after = [node("4", "3", "user", "Go on"), node("5", "4", "assistant", "Because.")]
    (line,) = lines(talk(*nodes, *after))
    assert line["nodes"] == ["0", "1"]


def test_conversations_without_a_finished_answer_are_named() -> None:
    file = io.StringIO()
    empty, asked = talk(), talk(*chain("Why?"))
    left_out = write_messages_jsonl([replace(empty, id="a"), replace(asked, id="b")], file)
    assert (left_out, file.getvalue()) == (("a", "b"), "")


def test_summaries_and_thinking_are_left_out() -> None:
    thought = PortableNode("2", "s", Message("assistant", "So.", reasoning="Hm."), MORNING)
    nodes = [node("1", None, "user", "Why?"), node("s", "1", "user", "Asked.", kind="summary")]
    (line,) = lines(talk(*nodes, thought))
    assert [message["content"] for message in line["messages"]] == ["Why?", "So."]
    assert "Hm." not in json.dumps(line)


def test_calls_of_tools_are_written_as_trainers_read_them() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("1", "weather", '{"city": "Lyon"}'),))
    nodes = [node("q", None, "user", "Rain?"), PortableNode("c", "q", call, MORNING)]
    (line,) = lines(talk(*nodes))
    assert line["messages"][1]["tool_calls"] == [
        {
            "type": "function",
            "id": "1",
            "function": {"name": "weather", "arguments": '{"city": "Lyon"}'},
        }
    ]


@pytest.mark.lengthy
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_each_line_is_one_conversation_whatever_is_in_it(texts: list[str]) -> None:
    for line in lines(talk(*chain(*texts))):
        said = [message["content"] for message in line["messages"]]
        assert said == texts[: len(said)] and line["messages"][-1]["role"] == "assistant"


def test_lines_of_messages_can_be_imported() -> None:
    file = io.StringIO()
    write_messages_jsonl([talk(*chain("Why?", "So."), system="Be brief.")], file)
    (back,) = read_conversations(io.BytesIO(file.getvalue().encode()))
    assert back.system == "Be brief."
    assert [one.message.content for one in back.path()] == ["Why?", "So."]


def test_markdown_has_the_title_the_system_prompt_and_the_path() -> None:
    text = markdown(talk(*chain("Why tides?", "The moon.", model="smollm2"), system="Be brief."))
    assert text == (
        "# Tides\n\n2026-03-01 08:30 UTC\n\n## System prompt\n\n> Be brief.\n"
        "\n### 1. You · 2026-03-01 08:30 UTC\n\nWhy tides?\n"
        "\n### 2. Assistant (smollm2) · 2026-03-01 08:30 UTC\n\nThe moon.\n"
    )


def test_markdown_has_the_other_branches_after_the_path() -> None:
    nodes = [
        *chain("Why?", "So."),
        node("b", "0", "assistant", "Because."),
        node("c", "b", "user", "Really?"),
        node("d", None, "user", "How?"),
    ]
    text = markdown(talk(*nodes, head="1"))
    assert "## Another branch, after message 1\n\n### 3. Assistant" in text
    assert "### 4. You · 2026-03-01 08:30 UTC\n\nReally?" in text
    assert "## Another branch, from the beginning\n\n### 5. You" in text


def test_markdown_without_a_head_has_all_branches() -> None:
    text = markdown(talk(*chain("Why?", "So."), head=None))
    assert "Why?" in text and "So." in text and "Another branch" not in text


@pytest.mark.parametrize("fence", ["```", "````", "~~~"])
def test_markdown_ends_a_block_of_code_that_was_left_open(fence: str) -> None:
    text = markdown(talk(*chain("Code?", f"{fence}python\nprint(1)")))
    assert text.endswith(f"{fence}python\nprint(1)\n{fence}\n")


def test_markdown_leaves_a_closed_block_as_it_is() -> None:
    text = markdown(talk(*chain("Code?", "```python\nprint(1)\n```\nDone")))
    assert text.endswith("```python\nprint(1)\n```\nDone\n")


def test_markdown_says_how_an_answer_ended_and_what_people_thought_of_it() -> None:
    opinion = {"thumb": "down", "tags": ["wrong"], "comment": "No moon."}
    answer = node("a", None, "assistant", "So.", facts={"status": "stopped"}, feedback=opinion)
    text = markdown(talk(answer))
    assert "### 1. Assistant (stopped)" in text
    assert "> Feedback: thumb down, wrong, No moon." in text


def test_a_title_of_several_lines_stays_one_heading() -> None:
    text = markdown(replace(talk(), title="Tides\n# and moons"))
    assert text.startswith("# Tides # and moons\n")


@pytest.mark.lengthy
def test_10000_messages_in_a_row_are_written() -> None:
    deep = talk(*chain(*["and?"] * 10_000))
    assert markdown(deep).count("###") == 10_000
    assert len(lines(deep)[0]["messages"]) == 10_000
