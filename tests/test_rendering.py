"""Where messages stand in a rendering, whose each token is, and what is remembered of it."""

import json
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkit.engines.scripted import CHATML, byte_tokenizer
from chatkit.messages import Message, ToolCall, assistant, user
from chatkit.remembered import Remembered
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer

REPEATING = "{% for m in messages %}{{ m.content }}|{{ m.content }}|{% endfor %}"
NOSY = CHATML.replace(
    "{{ message.content }}",
    "{% if message.content.startswith('(') %}!{% endif %}{{ message.content }}",
)


def swallowing_tokenizer() -> Tokenizer:
    """Its control tokens take the white space on both sides with them."""
    definition = json.loads(byte_tokenizer()._first.to_str())
    for token in definition["added_tokens"]:
        token["lstrip"] = token["rstrip"] = True
    return Tokenizer(json.dumps(definition), {"eos_token": "<|im_end|>"}, CHATML)


def shown(template: ChatTemplate, messages: list[Message]) -> list[tuple[int, str]]:
    rendering = template.rendering(messages)
    places = template.places(messages, rendering)
    return [(index, rendering.text[start:end]) for index, start, end in places]


texts = st.text(max_size=12) | st.sampled_from(["<|im_end|>", "(a", "user", "  b\n", "<|im_"])


@pytest.mark.lengthy
@given(said=st.lists(texts, min_size=1, max_size=5))
@settings(max_examples=200)
def test_each_message_is_found_where_it_stands(said: list[str]) -> None:
    template = ChatTemplate(byte_tokenizer())
    messages = [user(text) for text in said]
    assert shown(template, messages) == [(n, text) for n, text in enumerate(said) if text]


def test_a_trimmed_message_is_found_without_its_outer_white_space() -> None:
    trimming = CHATML.replace("content }}", "content | trim }}")
    template = ChatTemplate(byte_tokenizer(), trimming)
    assert shown(template, [user("  a b\n"), assistant("c")]) == [(0, "a b"), (1, "c")]


def test_a_repeated_message_has_several_places() -> None:
    template = ChatTemplate(byte_tokenizer(), REPEATING)
    assert shown(template, [user("a"), user("b")]) == [(0, "a"), (0, "a"), (1, "b"), (1, "b")]


def test_where_marks_would_change_the_text_it_is_searched() -> None:
    template = ChatTemplate(byte_tokenizer(), NOSY)
    assert shown(template, [user("(a)"), assistant("b")]) == [(0, "(a)"), (1, "b")]


def test_a_token_across_two_spans_counts_for_the_first() -> None:
    rendering = ChatTemplate(byte_tokenizer(), "{{ messages[0].content }}").rendering([user("é!")])
    assert rendering.tokens == 3
    assert rendering.shares([(0, 1), (1, 2)]) == [2, 1]
    assert rendering.shares([(0, 1), (0, 2)]) == [2, 1]
    assert rendering.shares([(0, 0), (2, 2)]) == [0, 0]


def test_a_token_that_the_template_completes_is_the_messages_own() -> None:
    definition = json.loads(byte_tokenizer()._first.to_str())
    definition["model"]["vocab"]["ab"] = len(definition["model"]["vocab"]) + 2
    definition["model"]["merges"] = [["a", "b"]]
    merging = Tokenizer(
        json.dumps(definition), {}, "{% for m in messages %}{{ m.content }}bc!{% endfor %}"
    )
    messages = [user("za"), user("a")]
    rendering = ChatTemplate(merging).rendering(messages)
    assert rendering.text == "zabc!abc!"
    assert rendering.tokens == 7
    assert rendering.shares([(0, 2), (5, 6)]) == [2, 1]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ messages[0].content }}end|>", "<|im_"),
        ("<|im_{{ messages[0].content }}", "end|>"),
    ],
)
def test_the_template_completes_no_control_token(source: str, said: str) -> None:
    template = ChatTemplate(byte_tokenizer(), source)
    assert template.text([user(said)]) == "<|im_end|>"
    assert len(template.render([user(said)])) == len("<|im_end|>")


def test_private_characters_in_tool_calls_stay_what_they_are() -> None:
    source = "{% for m in messages %}{{ m.content }}{{ m.tool_calls[0].function.arguments }}"
    template = ChatTemplate(byte_tokenizer(), source + "{% endfor %}")
    call = ToolCall("1", "f", "\U000f0000")
    said = [Message("assistant", "<|im_end|>", None, (call,))]
    assert template.text(said) == "<|im_end|>\U000f0000"


@pytest.mark.parametrize("answer", ["b", " b ", "\n\nb", "b \n", ""])
def test_white_space_that_a_control_token_swallows_shifts_no_mask(answer: str) -> None:
    bare = "{% for m in messages %}<|im_start|>\n{{ m.content }}<|im_end|>{% endfor %}"
    template = ChatTemplate(swallowing_tokenizer(), bare)
    masked = template.mask([user("a"), assistant(answer)])
    trained = [id for id, learned in zip(masked.ids, masked.trained, strict=True) if learned]
    assert trained[-1] == template.tokenizer.control["<|im_end|>"].id
    assert template.tokenizer.decode(trained) == answer.strip()


def test_the_tokens_of_a_piece_are_those_of_its_text() -> None:
    tokenizer = byte_tokenizer()
    encoded = tokenizer.encode_piece("Žluť", begins=True)
    assert [*zip(*encoded, strict=True)] == tokenizer.encode("Žluť")
    assert tokenizer.encode_piece("Žluť", begins=True) is encoded


class Box:
    """Something that can be seen to be gone."""


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=60))
def test_what_is_remembered_stays_within_its_bound(puts: list[tuple[int, int]]) -> None:
    remembered: Remembered[int, Box] = Remembered(40)
    alive: WeakKeyDictionary[Box, int] = WeakKeyDictionary()
    for key, size in puts:
        if remembered.get(key) is None:
            box = Box()
            alive[box] = size
            remembered.put(key, box, size)
            assert remembered.get(key) is box
            del box
        assert sum(alive.values()) <= 40


def test_what_was_not_used_for_long_is_forgotten() -> None:
    remembered: Remembered[str, int] = Remembered(8)
    for key in "abcdefgh":
        remembered.put(key, 1, 1)
        remembered.get("a")
    assert remembered.get("a") == 1
    assert remembered.get("b") is None


def test_what_is_larger_than_half_of_the_bound_is_not_kept() -> None:
    remembered: Remembered[str, int] = Remembered(8)
    remembered.put("a", 1, 5)
    assert remembered.get("a") is None


def test_forgetting_forgets_everything() -> None:
    remembered: Remembered[str, int] = Remembered(100)
    remembered.put("a", 1, 5)
    remembered.forget()
    assert remembered.get("a") is None
