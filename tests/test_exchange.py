"""chatkit's own file: what is read is what was written, and every other form is told apart."""

import io
import json
import os
import random
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkit.errors import ImportRefused, InputError
from chatkit.exchange.own import write_json
from chatkit.exchange.portable import Portable, PortableNode
from chatkit.exchange.reading import read_conversations
from chatkit.messages import ROLES, Message, ToolCall

MORNING = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
names = st.text("abcdef-0123456789é", min_size=1, max_size=36)
moments = st.datetimes(
    datetime(1970, 1, 2),
    datetime(9999, 12, 30),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=9))]),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(texts, inside, max_size=3),
    max_leaves=6,
)
data = st.dictionaries(texts, values, max_size=3)
calls = st.builds(ToolCall, texts, texts, texts)
messages = st.builds(
    Message,
    st.sampled_from(ROLES),
    texts,
    st.none() | texts,
    st.lists(calls, max_size=2).map(tuple),
    texts,
)
opinions = st.just({}) | st.fixed_dictionaries(
    {"thumb": st.sampled_from(["up", "down", None])},
    optional={"tags": st.lists(texts, max_size=2), "comment": texts},
)


@st.composite
def trees(draw: st.DrawFn) -> tuple[PortableNode, ...]:
    nodes: list[PortableNode] = []
    for id in draw(st.lists(names, unique=True, max_size=12)):
        parent = draw(st.sampled_from([None, *(node.id for node in nodes)]))
        kind = draw(st.sampled_from(["message", "summary"]))
        nodes.append(
            PortableNode(
                id,
                parent,
                draw(messages),
                draw(moments),
                kind,
                draw(st.booleans()),
                draw(data),
                draw(opinions),
            )
        )
    return tuple(nodes)


@st.composite
def portables(draw: st.DrawFn) -> Portable:
    nodes = draw(trees())
    head = draw(st.sampled_from([None, *(node.id for node in nodes)]))
    return Portable(
        draw(names),
        draw(texts),
        draw(moments),
        draw(moments),
        draw(st.none() | texts),
        draw(data),
        head,
        draw(st.none() | names),
        nodes,
        draw(st.none() | names),
    )


def tides(id: str = "tides") -> Portable:
    """A conversation with a question that was edited and an answer that was drawn again."""
    said = [
        ("q1", None, "user", "What makes the tide?"),
        ("a1", "q1", "assistant", "The moon, mostly."),
        ("a2", "q1", "assistant", "The moon and the sun."),
        ("q2", "a2", "user", "And in a lake?"),
        ("q3", None, "user", "Why are there two tides a day?"),
    ]
    nodes = tuple(
        PortableNode(id, parent, Message(role, text), MORNING + timedelta(seconds=number))
        for number, (id, parent, role, text) in enumerate(said)
    )
    return Portable(id, "Tides", MORNING, MORNING, "Be brief.", {}, "q2", None, nodes)


def written(*conversations: Portable) -> str:
    file = io.StringIO()
    write_json(conversations, file)
    return file.getvalue()


def read(text: str) -> tuple[Portable, ...]:
    return read_conversations(io.BytesIO(text.encode("utf-8")))


@pytest.mark.lengthy
@given(st.lists(portables(), unique_by=lambda one: one.id, max_size=3))
def test_what_is_read_is_what_was_written(conversations: list[Portable]) -> None:
    assert read(written(*conversations)) == tuple(conversations)


@pytest.mark.lengthy
@settings(max_examples=50)
@given(portables())
def test_writing_what_was_read_gives_the_same_file(conversation: Portable) -> None:
    file = written(conversation)
    assert written(*read(file)) == file


@pytest.mark.lengthy
@settings(max_examples=50)
@given(portables())
def test_a_file_that_was_formatted_anew_is_read_the_same(conversation: Portable) -> None:
    value = json.loads(written(conversation))
    for text in (json.dumps(value, indent=2), json.dumps(value, sort_keys=True)):
        assert read(text) == (conversation,)


def test_no_conversations_are_an_empty_export() -> None:
    assert read(written()) == ()


def test_the_file_is_json_with_a_format_and_a_version() -> None:
    value = json.loads(written(tides()))
    assert (value["format"], value["version"]) == ("chatkit-conversations", 1)
    assert value["conversations"][0]["title"] == "Tides"


def test_conversations_are_written_as_they_come() -> None:
    file = io.StringIO()
    seen: list[int] = []

    def coming() -> Iterator[Portable]:
        for id in "abc":
            seen.append(file.getvalue().count('"title"'))
            yield tides(id)

    write_json(coming(), file)
    assert seen == [0, 1, 2]


def test_a_path_leads_from_the_beginning_to_the_head() -> None:
    assert [node.id for node in tides().path()] == ["q1", "a2", "q2"]
    assert replace(tides(), head=None).path() == ()


@pytest.mark.lengthy
def test_a_tree_of_10000_messages_in_a_row_is_read() -> None:
    nodes = tuple(
        PortableNode(str(n), str(n - 1) if n else None, Message("user", "and?"), MORNING)
        for n in range(10_000)
    )
    deep = replace(tides(), nodes=nodes, head="9999")
    (back,) = read(written(deep))
    assert back == deep and len(back.path()) == 10_000


def test_children_before_their_parents_are_put_in_order() -> None:
    value = json.loads(written(tides()))
    random.Random(1).shuffle(value["conversations"][0]["nodes"])
    (back,) = read(json.dumps(value))
    seen: set[str | None] = {None}
    for node in back.nodes:
        assert node.parent in seen
        seen.add(node.id)


@pytest.mark.parametrize("name", ["tides.json", "tides.txt", "conversations.json", "tides"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(written(tides()), "utf-8")
    assert read_conversations(tmp_path / name) == (tides(),)


def test_a_byte_order_mark_does_not_matter() -> None:
    file = io.BytesIO(b"\xef\xbb\xbf" + written(tides()).encode())
    assert read_conversations(file) == (tides(),)


def test_a_zip_with_one_json_file_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("chats/mine.json", written(tides()))
    assert read_conversations(tmp_path / "mine.zip") == (tides(),)


def test_a_stream_that_cannot_be_rewound_is_read() -> None:
    out, into = os.pipe()

    def write() -> None:
        with os.fdopen(into, "w", encoding="utf-8") as file:
            file.write(written(tides()))

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(out, "rb") as file:
        assert read_conversations(file) == (tides(),)
    thread.join()


def test_a_file_of_a_newer_version_is_refused() -> None:
    newer = written(tides()).replace('"version": 1', '"version": 2')
    with pytest.raises(ImportRefused, match=r"version 2 .* version 1; .* newer chatkit"):
        read(newer)


@pytest.mark.parametrize(
    "facts", [{"speed": float("nan")}, {"speed": float("inf")}, {"at": MORNING}, {"ids": {1}}]
)
def test_what_json_has_no_form_for_is_not_written(facts: dict[str, object]) -> None:
    node = replace(tides().nodes[0], facts=facts)
    with pytest.raises(InputError, match="tides cannot be written as JSON"):
        written(replace(tides(), nodes=(node,), head=None))


def test_a_date_without_time_zone_is_not_written() -> None:
    with pytest.raises(InputError, match="time zone"):
        written(replace(tides(), created=datetime(2026, 3, 1)))


def test_an_export_that_broke_off_is_refused() -> None:
    def coming() -> Iterator[Portable]:
        yield tides("a")
        raise OSError

    file = io.StringIO()
    with pytest.raises(OSError):
        write_json(coming(), file)
    with pytest.raises(ImportRefused, match="ends in the middle"):
        read(file.getvalue())
