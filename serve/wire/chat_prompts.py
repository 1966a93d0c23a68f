"""Makes the prompt of a chat request; text in messages is never a control token."""

from collections.abc import Sequence

from chatkit.errors import InputError
from chatkit.messages import Message
from chatkit.prompt import Prompt, check_question
from chatkit.rendering import Rendering
from chatkit.template import ChatTemplate
from chatkit.tokenizer import Token
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
    text, tokens = chat_tokens(template, messages)
    ids = tuple(token.id for token in tokens)
    return Prompt(ids, text, tuple(messages), str(template.identity))


def chat_tokens(template: ChatTemplate, messages: Sequence[Message]) -> tuple[str, list[Token]]:
    """Render a conversation to text, and to tokens with their places in it.

    Raises: as `chat_prompt`.
    """
    check_question(messages)
    if messages[-1].role != "assistant":
        rendering = template.rendering(messages)
        return rendering.text, _tokens(rendering)
    if len(messages) == 1:
        raise InputError("The only message is an assistant's; ask something first.")
    trained = template.mask(messages).trained
    # Up to the token that would end the turn: this is what training saw before the next word.
    end = max(index for index, flag in enumerate(trained) if flag)
    rendering = template.rendering(messages, answer=False)
    tokens = _tokens(rendering)[:end]
    return rendering.text[: tokens[-1].end], tokens


def _tokens(rendering: Rendering) -> list[Token]:
    return [
        Token(id, piece.start + start, piece.start + end)
        for piece in rendering.pieces
        for id, start, end in zip(*piece.encoded, strict=True)
    ]
