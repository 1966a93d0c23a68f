"""The catalogued chat templates, against the formats that their publishers describe."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import ValidationError

from chatkit.catalogue import TemplatePolicy, catalogue, find

TWO_TURNS = [
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "How are you?"},
    {"role": "assistant", "content": "I am good."},
]
BRIEF = {"role": "system", "content": "Be brief."}


class Refused(Exception):
    pass


def render(name: str, messages: list[dict[str, str]], *, answer: bool, bos: str, eos: str) -> str:
    def refuse(message: str) -> None:
        raise Refused(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    source = find(name).template.jinja
    assert source is not None
    return environment.from_string(source).render(
        messages=messages, add_generation_prompt=answer, bos_token=bos, eos_token=eos
    )


def vicuna(messages: list[dict[str, str]], *, answer: bool = False, name: str = "vicuna-7b") -> str:
    return render(name, messages, answer=answer, bos="<s>", eos="</s>")


def dialogpt(messages: list[dict[str, str]], *, answer: bool = False) -> str:
    end = "<|endoftext|>"
    return render("dialogpt-medium", messages, answer=answer, bos=end, eos=end)


def test_only_models_without_a_template_of_their_own_have_one_here() -> None:
    catalogued = {e.name for e in catalogue().values() if e.template.policy == "catalogue"}

    assert catalogued == {"vicuna-7b", "vicuna-13b", "dialogpt-medium"}


def test_a_catalogued_template_needs_its_jinja_and_its_reference() -> None:
    with pytest.raises(ValidationError, match="its jinja and its reference"):
        TemplatePolicy(policy="catalogue", jinja="{{ messages }}")


def test_a_template_beside_the_tokenizers_own_is_refused() -> None:
    with pytest.raises(ValidationError, match="its jinja and its reference"):
        TemplatePolicy(jinja="{{ messages }}", reference="https://example.org")


@pytest.mark.parametrize("name", ["vicuna-7b", "vicuna-13b"])
def test_vicuna_speaks_the_published_format(name: str) -> None:
    assert vicuna(TWO_TURNS, name=name) == (
        "<s>A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. "
        "USER: Hello! ASSISTANT: Hello!</s>USER: How are you? ASSISTANT: I am good.</s>"
    )


def test_vicuna_takes_a_system_message_in_place_of_its_own() -> None:
    assert vicuna([BRIEF, *TWO_TURNS]) == (
        "<s>Be brief. "
        "USER: Hello! ASSISTANT: Hello!</s>USER: How are you? ASSISTANT: I am good.</s>"
    )


def test_vicuna_is_asked_to_answer_without_a_trailing_space() -> None:
    assert vicuna([BRIEF, *TWO_TURNS[:1]], answer=True) == "<s>Be brief. USER: Hello! ASSISTANT:"


@pytest.mark.parametrize(
    "messages",
    [TWO_TURNS[1:], [TWO_TURNS[0], TWO_TURNS[2]], [*TWO_TURNS, BRIEF]],
    ids=["the assistant first", "two users", "a late system message"],
)
def test_vicuna_refuses_what_is_no_dialogue_in_turns(messages: list[dict[str, str]]) -> None:
    with pytest.raises(Refused, match="take turns"):
        vicuna(messages)


def test_dialogpt_joins_the_turns_with_the_end_token() -> None:
    assert dialogpt(TWO_TURNS) == (
        "Hello!<|endoftext|>Hello!<|endoftext|>How are you?<|endoftext|>I am good.<|endoftext|>"
    )


def test_dialogpt_answers_right_after_the_end_token() -> None:
    assert dialogpt(TWO_TURNS[:1], answer=True) == "Hello!<|endoftext|>"


def test_dialogpt_has_no_place_for_a_system_message() -> None:
    with pytest.raises(Refused, match="user and assistant"):
        dialogpt([BRIEF, *TWO_TURNS])
