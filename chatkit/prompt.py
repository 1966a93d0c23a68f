"""What an engine is given: one conversation in every form that a wire may want."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatkit.errors import InputError
from chatkit.messages import Message
from chatkit.rendering import Rendering
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered conversation.

    Args:
        ids: the token ids, for local engines and servers that take ids.
        text: the same as text, for servers that take text.
        messages: the conversation itself, for chat endpoints of others.
        identity: the hash of the template that rendered it; empty for text that none rendered.
        user: who asks, so that a full queue can be fair between people; empty for nobody.
    """

    ids: tuple[int, ...]
    text: str
    messages: tuple[Message, ...]
    identity: str
    user: str = ""


def build_prompt(template: ChatTemplate, messages: Sequence[Message]) -> Prompt:
    """Render a conversation that ends with a question, ready to be answered.

    Raises:
        InputError: there is nothing to answer: no message, or an empty last one.
        TemplateError: the template refuses the messages.
    """
    check_question(messages)
    return rendered_prompt(template, messages, template.rendering(messages))


def rendered_prompt(
    template: ChatTemplate, messages: Sequence[Message], rendering: Rendering
) -> Prompt:
    """Make a prompt of what `template` has rendered already."""
    return Prompt(rendering.ids, rendering.text, tuple(messages), str(template.identity))


def raw_prompt(tokenizer: Tokenizer, text: str) -> Prompt:
    """Make a prompt of text that is to be continued; spellings of control tokens are tokens.

    Only for completion routes, whose callers write prompts by hand; never for what people type.

    Raises:
        InputError: the text is empty.
    """
    if not text:
        raise InputError("The text to continue is empty; write something.")
    return Prompt(tuple(token.id for token in tokenizer.encode_raw(text)), text, (), "")


def check_question(messages: Sequence[Message]) -> None:
    """Refuse a conversation that does not end with something to answer.

    Raises:
        InputError: there is no message, or the last one is empty.
    """
    if not messages or not messages[-1].content.strip():
        raise InputError("The message is empty; write something to send.")
