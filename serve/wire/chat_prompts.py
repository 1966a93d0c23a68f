"""Makes the prompt of a chat request; text in messages is never a control token."""

from collections.abc import Sequence

from chatkit.errors import InputError
from chatkit.messages import Message
from chatkit.prompt import Prompt, build_prompt
from chatkit.template import ChatTemplate
from serve.wire.chat_requests import MessageBody
from serve.wire.refusals import Refusal, validation


def messages_of(bodies: Sequence[MessageBody]) -> list[Message]:
    """Take the messages of a request.

    Raises:
        Refusal: one is none.
    """
    try:
        return [body.message() for body in bodies]
    except InputError as error:
        raise Refusal(validation(str(error))) from None


def chat_prompt(template: ChatTemplate, messages: Sequence[Message]) -> Prompt:
    """Render a conversation; when an assistant's message is the last, it is gone on with.

    Raises:
        InputError: there is nothing to answer.
        TemplateError: the template refuses the messages.
    """
    if messages[-1].role != "assistant":
        return build_prompt(template, messages)
    if not messages[-1].content or len(messages) == 1:
        raise InputError("The last message is an assistant's and cannot be gone on with; ask one.")
    masked = template.mask(messages)
    # Up to the token that would end the turn: this is what training saw before the next word.
    end = max(index for index, trained in enumerate(masked.trained) if trained)
    text = template.text(messages[:-1]) + messages[-1].content
    return Prompt(masked.ids[:end], text, tuple(messages), str(template.identity))


def rendered_text(template: ChatTemplate, messages: Sequence[Message]) -> str:
    """Give the text of a conversation as the template writes it.

    Raises:
        TemplateError: the template refuses the messages.
    """
    if messages[-1].role == "assistant":
        return template.text(messages[:-1]) + messages[-1].content
    return template.text(messages)
