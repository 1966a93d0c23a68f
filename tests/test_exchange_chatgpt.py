"""Conversations of ChatGPT's export: the tree, and what its messages say."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from chatkit.exchange.portable import Portable
from chatkit.exchange.reading import read_conversations

NOON = 1_767_268_800.0  # 2026-01-01 12:00 UTC


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    value = {
        "author": {"role": role, "name": more.pop("name", None), "metadata": {}},
        "create_time": more.pop("create_time", None),
        "content": content,
        "status": more.pop("status", "finished_successfully"),
        "metadata": more.pop("metadata", {}),
        "recipient": "all",
    }
    return {**value, **more}


def conversation(
    nodes: list[tuple[str, str | None, dict[str, Any] | None]], **more: Any
) -> dict[str, Any]:
    mapping = {
        id: {
            "id": id,
            "parent": parent,
            "children": [child for child, its_parent, _ in nodes if its_parent == id],
            "message": said and {"id": id, **said},
        }
        for id, parent, said in nodes
    }
    value = {
        "title": "Bread",
        "create_time": NOON,
        "update_time": NOON + 60,
        "mapping": mapping,
        "current_node": nodes[-1][0] if nodes else None,
        "conversation_id": "c-1",
    }
    return {**value, **more}


def bread(id: str = "c-1") -> dict[str, Any]:
    """A typical one: an empty root, an empty system message, a question answered twice."""
    hidden = {"is_visually_hidden_from_conversation": True}
    answer = {"model_slug": "gpt-4o", "finish_details": {"type": "stop"}}
    return conversation(
        [
            ("root", None, None),
            ("system", "root", message("system", "", metadata=hidden)),
            ("q1", "system", message("user", "How do I bake bread?", create_time=NOON + 1)),
            ("a1", "q1", message("assistant", "Flour.", create_time=NOON + 2, metadata=answer)),
            ("a2", "q1", message("assistant", "Yeast.", create_time=NOON + 9, metadata=answer)),
            ("q2", "a1", message("user", "And rye?", create_time=NOON + 5)),
        ],
        current_node="a2",
        conversation_id=id,
    )


def read(*conversations: dict[str, Any]) -> tuple[Portable, ...]:
    return read_conversations(io.BytesIO(json.dumps(conversations).encode()))


def read_one(*nodes: tuple[str, str | None, dict[str, Any] | None], **more: Any) -> Portable:
    (found,) = read(conversation(list(nodes), **more))
    return found


def said(content: dict[str, Any], role: str = "assistant", **more: Any) -> str:
    (node,) = read_one(("m", None, message(role, content, **more))).nodes
    return node.message.content


def test_the_tree_is_kept_without_the_nodes_that_say_nothing() -> None:
    (found,) = read(bread())
    assert [(node.id, node.parent) for node in found.nodes] == [
        ("q1", None),
        ("a1", "q1"),
        ("q2", "a1"),
        ("a2", "q1"),
    ]
    assert [node.message.content for node in found.path()] == ["How do I bake bread?", "Yeast."]


def test_title_id_and_dates_are_kept() -> None:
    (found,) = read(bread())
    assert (found.id, found.title) == ("c-1", "Bread")
    assert found.created == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert found.updated == datetime(2026, 1, 1, 12, 1, tzinfo=UTC)
    assert found.nodes[0].created == datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)


def test_an_answer_knows_its_model_and_how_it_ended() -> None:
    (found,) = read(bread())
    question, answer = found.nodes[:2]
    assert answer.facts == {"status": "done", "model": "gpt-4o", "finish": "stop"}
    assert question.facts == {}


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("finished_successfully", "done"),
        ("finished_partial_completion", "stopped"),
        ("in_progress", "interrupted"),
        ("error", "failed"),
        ("of_tomorrow", "interrupted"),
    ],
)
def test_the_status_of_an_answer_becomes_ours(status: str, ours: str) -> None:
    (node,) = read_one(("m", None, message("assistant", "Well", status=status))).nodes
    assert node.facts["status"] == ours


def test_a_missing_title_is_the_beginning_of_the_first_question() -> None:
    question = message("user", "  How do I\nbake bread with rye and no yeast at all?")
    found = read_one(("root", None, None), ("q", "root", question), title=None)
    assert found.title == "How do I bake bread with rye and"


def test_a_conversation_in_which_nothing_was_said_is_kept() -> None:
    found = read_one(("root", None, None), title=None)
    assert (found.nodes, found.head, found.title) == ((), None, "Untitled")


def test_dates_that_are_missing_are_those_of_what_came_before() -> None:
    question = message("user", "Hello", create_time=NOON + 5)
    found = read_one(("q", None, question), ("a", "q", message("assistant", "Hi")))
    assert found.nodes[1].created == found.nodes[0].created


def test_siblings_stand_in_the_order_of_their_dates() -> None:
    later, earlier = (message("user", "x", create_time=NOON + n) for n in (9, 3))
    found = read_one(("later", None, later), ("earlier", None, earlier))
    assert [node.id for node in found.nodes] == ["earlier", "later"]


def test_the_head_follows_a_node_that_says_nothing() -> None:
    found = read_one(("q", None, message("user", "Hello")), ("a", "q", message("assistant", "")))
    assert found.head == "q"


def test_without_a_current_node_the_head_is_the_last_message() -> None:
    found = read_one(("q", None, message("user", "Hello")), current_node=None)
    assert found.head == "q"


@pytest.mark.parametrize(
    "instructions",
    [
        message(
            "user",
            {
                "content_type": "user_editable_context",
                "user_profile": "I bake.",
                "user_instructions": "Be brief.",
            },
        ),
        message(
            "system",
            "",
            metadata={
                "is_user_system_message": True,
                "user_context_message_data": {
                    "about_user_message": "I bake.",
                    "about_model_message": "Be brief.",
                },
            },
        ),
        message("system", "I bake.\n\nBe brief."),
    ],
)
def test_instructions_become_the_system_prompt(instructions: dict[str, Any]) -> None:
    found = read_one(("s", None, instructions), ("q", "s", message("user", "Hello")))
    assert found.system == "I bake.\n\nBe brief."
    assert [node.id for node in found.nodes] == ["q"]


def test_thinking_goes_with_the_answer_that_it_led_to() -> None:
    thoughts = {
        "content_type": "thoughts",
        "thoughts": [{"summary": "Flour", "content": "Which flour?"}],
    }
    recap = {"content_type": "reasoning_recap", "content": "Thought for 3 s"}
    found = read_one(
        ("q", None, message("user", "Bread?")),
        ("t", "q", message("assistant", thoughts)),
        ("r", "t", message("assistant", recap)),
        ("a", "r", message("assistant", "Rye.")),
    )
    answer = found.nodes[1]
    assert (answer.id, answer.parent, answer.message.content) == ("a", "q", "Rye.")
    assert answer.message.reasoning == "Flour\n\nWhich flour?"


def test_a_tool_keeps_its_name() -> None:
    output = {"content_type": "execution_output", "text": "4"}
    (node,) = read_one(("t", None, message("tool", output, name="python"))).nodes
    assert (node.message.role, node.message.name) == ("tool", "python")
    assert node.message.content == "```\n4\n```"


def test_pictures_and_sounds_leave_a_note() -> None:
    parts = [
        {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1"},
        "What is this?",
        {"content_type": "audio_transcription", "text": "And this?"},
        {"content_type": "audio_asset_pointer"},
        {"content_type": "smell_pointer"},
    ]
    text = said({"content_type": "multimodal_text", "parts": parts}, "user")
    assert text == "[image]\n\nWhat is this?\n\nAnd this?\n\n[audio]\n\n[smell pointer]"


def test_attached_files_are_named() -> None:
    files = [
        {"name": "recipe.pdf", "mime_type": "application/pdf"},
        {"name": "loaf.png", "mime_type": "image/png"},
    ]
    content = {"content_type": "text", "parts": ["Read this."]}
    text = said(content, "user", metadata={"attachments": files})
    assert text == "Read this.\n\n[file: recipe.pdf]"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"content_type": "code", "language": "python", "text": "1 + 1"}, "```python\n1 + 1\n```"),
        ({"content_type": "code", "language": "unknown", "text": "1"}, "```\n1\n```"),
        ({"content_type": "code", "language": "x\n#", "text": "```"}, "````\n```\n````"),
        (
            {
                "content_type": "tether_quote",
                "title": "Rye",
                "url": "https://r.example",
                "text": "A",
            },
            "Rye\n\nhttps://r.example\n\nA",
        ),
        ({"content_type": "tether_browsing_display", "result": "", "summary": "Seen"}, "Seen"),
        ({"content_type": "system_error", "name": "Timeout", "text": "late"}, "Timeout\n\nlate"),
        ({"content_type": "of_tomorrow", "text": "Something"}, "Something"),
        ({"content_type": "of_tomorrow"}, "[of tomorrow]"),
    ],
)
def test_every_kind_of_content_can_be_read(content: dict[str, Any], text: str) -> None:
    assert said(content) == text


@pytest.mark.lengthy
def test_10000_messages_in_a_row_are_read() -> None:
    nodes = [(f"m{n}", f"m{n - 1}" if n else None, message("user", "and?")) for n in range(10_000)]
    mapping = {
        id: {"id": id, "parent": parent, "children": [], "message": text}
        for id, parent, text in nodes
    }
    (found,) = read({**bread(), "mapping": mapping, "current_node": "m9999"})
    assert len(found.path()) == 10_000


@pytest.mark.parametrize("text", [json.dumps(bread()), json.dumps({"conversations": [bread()]})])
def test_a_conversation_alone_or_wrapped_is_read(text: str) -> None:
    (found,) = read_conversations(io.BytesIO(text.encode()))
    assert found.id == "c-1"


def test_conversations_without_an_id_are_named_by_their_place() -> None:
    first, second = (bread(), bread())
    del first["conversation_id"], second["conversation_id"]
    data = json.dumps([first, second]).encode()
    found = read_conversations(io.BytesIO(data), name="conversations-003.json")
    assert [one.id for one in found] == ["conversations-003-1", "conversations-003-2"]
