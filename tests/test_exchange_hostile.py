"""What a stranger may bring as an import: refused whole, with the place, and never taken in."""

import io
import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.errors import ImportRefused
from chatkit.exchange.limits import DEFAULT_LIMITS, Limits
from chatkit.exchange.portable import Portable
from chatkit.exchange.reading import read_conversations

DATE = "2026-03-01T08:30:00+00:00"
QUESTION = {"id": "q", "parent": None, "created": DATE, "role": "user", "content": "Hello"}
CHATGPT_QUESTION = {
    "id": "q",
    "parent": None,
    "message": {"author": {"role": "user"}, "content": {"parts": ["Hello"]}},
}


def own(nodes: Any = (QUESTION,), **more: Any) -> dict[str, Any]:
    value = {"id": "c", "title": "Hello", "created": DATE, "updated": DATE, "nodes": list(nodes)}
    return {**value, **more}


def own_node(**more: Any) -> dict[str, Any]:
    return own([{**QUESTION, **more}])


def file_of(*conversations: dict[str, Any]) -> str:
    inside = json.dumps(conversations)
    return f'{{"format": "chatkit-conversations", "version": 1, "conversations": {inside}}}'


def chatgpt(mapping: Any = None, **more: Any) -> dict[str, Any]:
    return {"title": "Hello", "mapping": mapping or {"q": CHATGPT_QUESTION}, **more}


def chatgpt_message(**more: Any) -> dict[str, Any]:
    message = {**CHATGPT_QUESTION["message"], **more}
    return chatgpt({"q": {**CHATGPT_QUESTION, "message": message}})


def link(id: str, parent: str | None) -> dict[str, Any]:
    return {**CHATGPT_QUESTION, "id": id, "parent": parent}


def read(text: str, limits: Limits = DEFAULT_LIMITS) -> tuple[Portable, ...]:
    return read_conversations(io.BytesIO(text.encode("utf-8")), limits, "export.json")


def refusal(text: str, limits: Limits = DEFAULT_LIMITS) -> str:
    with pytest.raises(ImportRefused) as caught:
        read(text, limits)
    return str(caught.value)


OWN = {
    "another id twice": (own([QUESTION, QUESTION]), "message 'q': this id is there twice"),
    "a parent that is missing": (own_node(parent="x"), "message 'q': its parent is not in the"),
    "its own parent": (own_node(parent="q"), "message 'q': its parents go in a circle"),
    "a circle": (
        own([{**QUESTION, "id": "a", "parent": "b"}, {**QUESTION, "id": "b", "parent": "a"}]),
        "message 'a': its parents go in a circle",
    ),
    "a head that is missing": (own(head="x"), "its head is not one of its messages"),
    "no title": ({"id": "c", "nodes": []}, "'title' is missing"),
    "a title that is no text": (own(title=["x"]), "'title' is a list and not text"),
    "a field of tomorrow": (own(mood="good"), "the field 'mood' is unknown"),
    "a message's field of tomorrow": (own_node(mood="good"), "the field 'mood' is unknown"),
    "no messages at all": ({**own(), "nodes": None}, "'nodes' is missing"),
    "messages that are no list": ({**own(), "nodes": {"q": 1}}, "'nodes' is an object and not"),
    "a message that is no object": (own(["Hello"]), "'nodes' holds text where an object"),
    "an empty id": (own_node(id=""), "'id' does not have 1 to 200 characters"),
    "an endless id": (own_node(id="x" * 201), "'id' does not have 1 to 200 characters"),
    "an unknown role": (own_node(role="god"), "message 'q': 'role' is none of system, user"),
    "an unknown kind": (own_node(kind="rumour"), "'kind' is none of message, summary"),
    "a pin that is a number": (own_node(pinned=1), "'pinned' is a number and not true or false"),
    "content that is an object": (own_node(content={"a": 1}), "'content' is an object and not"),
    "half of a surrogate pair": (own_node(content="\ud800"), "message 'q': 'content' holds halves"),
    "a NUL": (own_node(content="a\0b"), "message 'q': 'content' holds NUL characters; remove"),
    "a surrogate in a name": (own_node(name="\udfff"), "'name' holds halves"),
    "a surrogate deep in facts": (own_node(facts={"a": [{"\ud800": 1}]}), "'facts' holds halves"),
    "a NUL in a tag": (own_node(feedback={"tags": ["\0"]}), "'feedback' holds NUL"),
    "a surrogate in an id": (own_node(id="\ud800"), r"'id' holds halves of surrogate pairs"),
    "a sideways thumb": (own_node(feedback={"thumb": "side"}), "'thumb' is neither up nor down"),
    "tags that are numbers": (own_node(feedback={"tags": [1]}), "'tags' are not all text"),
    "a comment that is a list": (own_node(feedback={"comment": []}), "'comment' is a list"),
    "a call without a name": (own_node(tool_calls=[{"id": "1"}]), "'name' is missing"),
    "no date at all": (own_node(created="yesterday"), "'created' is 'yesterday'; write it like"),
    "a date without zone": (own_node(created="2026-03-01T08:30:00"), "write it like"),
    "the year 99999": (own_node(created="99999-01-01T00:00:00Z"), "write it like"),
    "a date past the end": (own_node(created="9999-12-31T23:59:59-12:00"), "write it like"),
}
CHATGPT = {
    "a parent that is missing": (chatgpt({"a": link("a", "x")}), "message 'a': its parent is not"),
    "a circle": (
        chatgpt({"a": link("a", "b"), "b": link("b", "a")}),
        "message 'a': its parents go in a circle",
    ),
    "a node under another id": (chatgpt({"a": link("b", None)}), "message 'a': it stands under"),
    "a current node that is missing": (chatgpt(current_node="x"), "its current_node is not one"),
    "a mapping that is a list": (chatgpt([1]), "'mapping' is a list and not an object"),
    "a node that is text": (chatgpt({"a": "Hello"}), "message 'a': 'a' is text and not an object"),
    "a message that is text": (
        chatgpt({"a": {"message": "Hello"}}),
        "message 'a': 'message' is text and not an object",
    ),
    "an unknown role": (chatgpt_message(author={"role": "god"}), "the role 'god' is unknown"),
    "no role": (chatgpt_message(author={}), "message 'q': 'role' is missing"),
    "parts that are text": (chatgpt_message(content={"parts": "Hello"}), "'parts' is text and"),
    "a part that is a number": (
        chatgpt_message(content={"parts": [1]}),
        "neither text nor objects",
    ),
    "half of a surrogate pair": (
        chatgpt_message(content={"parts": ["\udc00"]}),
        "message 'q': 'parts' holds halves of surrogate pairs",
    ),
    "a NUL": (chatgpt_message(content={"parts": ["\0"]}), "message 'q': 'parts' holds NUL"),
    "a date that is text": (chatgpt_message(create_time="noon"), "'create_time' is text and not"),
    "a date that is true": (chatgpt_message(create_time=True), "'create_time' is true or false"),
    "a date of 10000 years": (chatgpt_message(create_time=1e12), "no date between the years"),
    "a conversation's date in milliseconds": (chatgpt(create_time=1.7e12), "no date between"),
}


@pytest.mark.parametrize(("conversation", "message"), OWN.values(), ids=OWN)
def test_a_hostile_conversation_of_ours_is_refused(
    conversation: dict[str, Any], message: str
) -> None:
    sentence = refusal(file_of(own(id="first"), conversation))
    assert sentence.startswith("export.json, conversation 2") and message in sentence


@pytest.mark.parametrize(("conversation", "message"), CHATGPT.values(), ids=CHATGPT)
def test_a_hostile_conversation_of_chatgpt_is_refused(
    conversation: dict[str, Any], message: str
) -> None:
    sentence = refusal(json.dumps([chatgpt(), conversation]))
    assert sentence.startswith("export.json, conversation 2") and message in sentence


GOOD = json.dumps([chatgpt()])
KEYS = ["mapping", "message", "content", "parts", "author", "role", "metadata", "id", "parent"]
KEYS += ["conversations", "from", "value", "messages", "format", "version"]
WHOLE = file_of(own(id="first"), own(id="second"))


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    assert "export.json" in refusal(WHOLE[:length])


@given(st.integers(0, len(WHOLE) - 1), st.characters(exclude_categories=["Cs"]))
def test_a_changed_character_is_refused_or_changes_what_it_says(place: int, new: str) -> None:
    try:
        found = read(WHOLE[:place] + new + WHOLE[place + 1 :])
    except ImportRefused:
        return
    assert len(found) == 2


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else_than_be_refused(data: bytes) -> None:
    with pytest.raises(ImportRefused):
        read_conversations(io.BytesIO(data + b"x"))


@pytest.mark.lengthy
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(
                st.sampled_from(KEYS),
                inside,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_json_of_any_shape_is_read_or_refused(value: Any) -> None:
    try:
        read(json.dumps([value]))
    except ImportRefused as error:
        assert str(error).startswith("export.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; choose the file"),
        (" \n ", "it is empty"),
        ("hello", "it is neither JSON nor a zip; choose a file"),
        ("3", "it is neither JSON nor a zip"),
        ("[1]", "its JSON is broken"),
        ('["a"]', "its JSON is broken"),
        ("[[]]", "it is no conversation of a known kind"),
        ('[{"a": 1}]', "conversation 1: it is no conversation of a known kind; choose"),
        (GOOD[:-1] + "}]", "its JSON is broken"),
        (GOOD[:-1] + " {}]", "its JSON is broken"),
        (GOOD[:-1] + ",]", "its JSON is broken"),
        (GOOD + "]", "its JSON is broken"),
        ('[{"a": }]', "its JSON is broken"),
        ('[{"a": "\0"}]', "its JSON is broken"),
        ('[{"a": 1]]', "its JSON is broken"),
        ('[{"mapping": {}, "mapping": {}}]', "the key 'mapping' is there twice"),
        ('[{"mapping": {"a": null, "a": null}}]', "the key 'a' is there twice"),
        ('[{"mapping": {}, "create_time": NaN}]', "NaN is no number"),
        ('[{"mapping": {}, "create_time": -Infinity}]', "-Infinity is no number"),
        ('[{"mapping": {}, "create_time": 1e999}]', "no date between"),
        ('[{"mapping": {}, "a": ' + "9" * 5000 + "}]", "thousands of digits"),
        ('{"format": "chatkit-conversations", "conversations": []}', "'version' is missing"),
        ('{"format": "chatkit-conversations", "version": 1, "conversations": [[]]}', "a list"),
        (file_of() + "x", "its JSON is broken"),
        (file_of(own(), own()), "conversation 2: another conversation has the same id"),
        (file_of(own_node(facts={"a": 7.25})).replace("7.25", "1e999"), "not finite"),
    ],
)
def test_a_broken_file_is_refused(text: str, message: str) -> None:
    sentence = refusal(text)
    assert sentence.startswith("export.json") and message in sentence


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_refused(encoding: str) -> None:
    data = json.dumps([chatgpt(title="é")], ensure_ascii=False).encode(encoding)
    with pytest.raises(ImportRefused, match="not UTF-8; export it again as UTF-8"):
        read_conversations(io.BytesIO(data))


def test_control_characters_never_reach_the_sentence() -> None:
    sentence = refusal(json.dumps([chatgpt({"\x1b[2J" + "x" * 500: "Hello"})]))
    assert "\x1b" not in sentence and len(sentence) < 400


LIMITS = {
    "bytes": (Limits(total_bytes=1000), "more than 1,000 bytes"),
    "conversations": (Limits(conversations=1), "conversation 2: .* more than 1 conversations"),
    "messages": (Limits(messages=3), "conversation 2: .* more than 3 messages"),
    "characters": (Limits(message_characters=4), "'content' has 5 characters and 4 are allowed"),
    "values": (Limits(values=5), "more than 5 values; import it in parts, or raise the limit"),
    "depth": (Limits(depth=2), "more than 2 lists and objects are inside each other"),
}


@pytest.mark.parametrize(("limits", "message"), LIMITS.values(), ids=LIMITS)
def test_each_limit_is_kept(limits: Limits, message: str) -> None:
    nodes = [{**QUESTION, "id": id} for id in ("a", "b")]
    text = file_of(*(own(nodes, id=id, title="Hi") for id in "abcdefgh"))
    with pytest.raises(ImportRefused, match=message):
        read(text, limits)
    assert len(read(text)) == 8


def test_one_huge_conversation_is_refused_before_it_is_parsed() -> None:
    limits = replace(DEFAULT_LIMITS, conversation_characters=100_000)
    text = json.dumps([chatgpt(), chatgpt(padding="x" * 5_000_000)])
    assert "conversation 2: it has more than 100,000 characters" in refusal(text, limits)


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_deep_nesting_is_refused_before_it_is_parsed(bracket: str) -> None:
    text = '[{"mapping": ' + bracket * 1_000_000
    assert "more than 64 lists and objects" in refusal(text)


@pytest.mark.lengthy
def test_very_many_nodes_in_a_small_file_take_no_memory() -> None:
    text = '[{"mapping": [' + "{}," * 100_000 + "{}]}]"
    tracemalloc.start()
    sentence = refusal(text, Limits(values=10_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 10,000 values" in sentence
    assert peak < 8 * len(text)


@pytest.mark.lengthy
def test_thoughts_that_repeat_themselves_take_no_memory() -> None:
    thought = {"content_type": "thoughts", "parts": ["x" * 1000]}
    message = {"author": {"role": "assistant"}, "content": thought}
    mapping = {
        str(n): {"parent": str(n - 1) if n else None, "message": message} for n in range(3000)
    }
    text = json.dumps([chatgpt(mapping)])
    assert "more than 10,000,000 bytes" in refusal(text, Limits(total_bytes=10_000_000))
