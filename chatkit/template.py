"""The chat template: the only place where messages become tokens."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from chatkit.errors import TemplateError
from chatkit.jinja import compile_template
from chatkit.messages import Message
from chatkit.shield import Shield, Spellings
from chatkit.tokenizer import Token, Tokenizer


class Masked(NamedTuple):
    """Token ids of a whole conversation and, for each, whether it is trained."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class TemplateIdentity:
    """What makes two templates the same; `str()` is a short hash of all of it.

    Args:
        template: the Jinja text.
        control: the control tokens' texts and ids, in the order of their ids.
        bos: the text of the begin token, None when there is none.
        eos: the text of the end token, None when there is none.
        default_system: what the template says when there is no system message.
    """

    template: str
    control: tuple[tuple[str, int], ...]
    bos: str | None
    eos: str | None
    default_system: str

    def __str__(self) -> str:
        canonical = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]


class ChatTemplate:
    """Renders messages to ids, and says which of them are trained.

    A control token's spelling inside a message is text: it is put out of the way as a
    private-use character, the template is rendered, the result is cut at the control tokens that
    the template itself wrote, and each piece between them is encoded as plain text.

    Args:
        tokenizer: the model's tokenizer.
        source: the Jinja text; None takes the tokenizer's own.

    Raises:
        TemplateError: there is no template, or its Jinja is broken.
    """

    def __init__(self, tokenizer: Tokenizer, source: str | None = None) -> None:
        source = source or tokenizer.chat_template
        if source is None:
            raise TemplateError(
                "This model has no chat template; name one in the catalogue or pass its Jinja text."
            )
        self.tokenizer = tokenizer
        self.source = source
        self._compiled = compile_template(source)
        self._spellings = Spellings(tokenizer.control)

    @cached_property
    def identity(self) -> TemplateIdentity:
        """What this template is, to be compared between training, reports and serving."""
        control = sorted(self.tokenizer.control.values(), key=lambda token: token.id)
        return TemplateIdentity(
            self.source,
            tuple((token.text, token.id) for token in control),
            self.tokenizer.bos,
            self.tokenizer.eos,
            self._default_system(),
        )

    def text(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """Render to text, as a person may read it.

        Args:
            messages: the conversation, oldest first.
            answer: whether to end with the beginning of an assistant's turn.

        Raises:
            TemplateError: the template refuses these messages.
        """
        shield = self._shield(messages)
        return shield.uncover(self._render(messages, shield, answer))

    def render(self, messages: Sequence[Message], *, answer: bool = True) -> tuple[int, ...]:
        """Render to token ids.

        Args and raises: as `text`.
        """
        shield = self._shield(messages)
        return tuple(token.id for token in self._tokens(messages, shield, answer))

    def neutralised(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """Name the control tokens whose spelling occurs inside these messages."""
        found = {hit for m in messages for hit in self._spellings.whole.findall(m.content)}
        return tuple(sorted(found))

    def mask(self, messages: Sequence[Message]) -> Masked:
        """Render a finished conversation and mark exactly the assistant's answers.

        Trained is each answer from its first character through the control token that ends the
        turn, and nothing else.

        Raises:
            TemplateError: an answer is not in the rendered text exactly once and unchanged, or
                no control token ends its turn.
        """
        shield = self._shield(messages)
        tokens = list(self._tokens(messages, shield, answer=False))
        spans = self._answer_spans(messages, shield)
        trained = [False] * len(tokens)
        text = self._joined(self._render(messages, shield, answer=False), shield)
        for start, end in spans:
            turn_end = self._turn_end(end, tokens, text)
            for index, token in enumerate(tokens):
                trained[index] |= token.end > start and token.end <= turn_end
        return Masked(tuple(token.id for token in tokens), tuple(trained))

    def _shield(self, messages: Sequence[Message]) -> Shield:
        texts = [part for m in messages for part in (m.content, m.name or "", m.reasoning)]
        return Shield(self._spellings, [*texts, self.source])

    def _render(self, messages: Sequence[Message], shield: Shield, answer: bool) -> str:
        return self._render_dictionaries([_as_dictionary(m, shield) for m in messages], answer)

    def _render_dictionaries(self, messages: list[dict[str, Any]], answer: bool) -> str:
        try:
            return self._compiled.render(
                messages=messages,
                add_generation_prompt=answer,
                bos_token=self.tokenizer.bos or "",
                eos_token=self.tokenizer.eos or "",
            )
        except TemplateError:
            raise
        except Exception as error:
            raise TemplateError(
                f"The chat template cannot render these messages ({error}); "
                "check their roles and their order."
            ) from error

    def _tokens(self, messages: Sequence[Message], shield: Shield, answer: bool) -> Iterator[Token]:
        rendered = self._render(messages, shield, answer)
        position = 0
        for text, control in self._pieces(rendered):
            if control is None:
                plain = shield.uncover(text)
                yield from self._encode(plain, position)
                position += len(plain)
            else:
                yield Token(self.tokenizer.control[control].id, position, position + len(control))
                position += len(control)

    def _pieces(self, rendered: str) -> Iterator[tuple[str, str | None]]:
        """Cut at control tokens: pieces of text, and control tokens, in their order."""
        start, strip_left = 0, False
        for hit in [*self._spellings.whole.finditer(rendered), None]:
            text = rendered[start : hit.start() if hit else len(rendered)]
            control = self.tokenizer.control[hit.group()] if hit else None
            text = text.lstrip() if strip_left else text
            text = text.rstrip() if control and control.lstrip else text
            if text:
                yield text, None
            if hit and control:
                yield control.text, control.text
                start, strip_left = hit.end(), control.rstrip

    def _encode(self, text: str, position: int) -> Iterator[Token]:
        for token in self.tokenizer.encode(text, begins=position == 0):
            yield Token(token.id, token.start + position, token.end + position)

    def _answer_spans(self, messages: Sequence[Message], shield: Shield) -> list[tuple[int, int]]:
        """Find where each answer begins and ends in the text, with markers that leave no trace."""
        opening, closing = shield.fresh(), shield.fresh()
        rendered = self._render(messages, shield, answer=False)
        answers = sum(message.role == "assistant" for message in messages)
        # Markers inside the outer white space suit a template that trims its answers.
        for inside in (False, True):
            marked = self._render_dictionaries(
                [_marked(m, shield, opening, closing, inside) for m in messages], answer=False
            )
            plain = marked.replace(opening, "").replace(closing, "")
            counts = {marked.count(opening), marked.count(closing)}
            if plain == rendered and counts == {answers}:
                return _marked_spans(self._joined(marked, shield), opening, closing)
        raise TemplateError(
            "The chat template drops or rewrites an assistant's answer, so what would be "
            "trained cannot be proved; train on conversations that it keeps whole."
        )

    def _joined(self, rendered: str, shield: Shield) -> str:
        """Give the text in the coordinates of `_tokens`: stripped beside control tokens."""
        return "".join(
            text if control else shield.uncover(text) for text, control in self._pieces(rendered)
        )

    def _turn_end(self, end: int, tokens: list[Token], text: str) -> int:
        """Find where the control token after an answer ends, as a position in the text."""
        after = (t for t in tokens if t.start >= end and t.id in self._control_ids)
        closing = next(after, None)
        if closing is None:
            raise TemplateError(
                "No control token ends an assistant's turn in this chat template, so a trained "
                "model would never learn to stop; use a template that closes each turn."
            )
        if text[end : closing.start].strip():
            raise TemplateError(
                f"The chat template writes {text[end : closing.start]!r} after an answer, which "
                "would be trained too; use a template that closes each turn at once."
            )
        return closing.end

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(token.id for token in self.tokenizer.control.values())

    def _default_system(self) -> str:
        """Find what the template says by itself, by comparing it with a system message given."""
        probe, question = "\ue010", Message("user", "\ue011")
        try:
            given = self.text([Message("system", probe), question], answer=False)
            absent = self.text([question], answer=False)
        except TemplateError:
            return ""
        before, found, after = given.partition(probe)
        after = after.partition("\ue011")[0]
        head = absent.partition("\ue011")[0]
        if not found or len(before) + len(after) > len(head):
            return ""
        if not (head.startswith(before) and head.endswith(after)):
            return ""
        return head[len(before) : len(head) - len(after)]


def _as_dictionary(message: Message, shield: Shield) -> dict[str, Any]:
    dictionary: dict[str, Any] = {
        "role": message.role,
        "content": shield.cover(message.content),
    }
    if message.name is not None:
        dictionary["name"] = shield.cover(message.name)
    if message.reasoning:
        dictionary["reasoning_content"] = shield.cover(message.reasoning)
    if message.tool_calls:
        dictionary["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": shield.cover(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return dictionary


def _marked(
    message: Message, shield: Shield, opening: str, closing: str, inside: bool
) -> dict[str, Any]:
    dictionary = _as_dictionary(message, shield)
    if message.role == "assistant":
        content: str = dictionary["content"]
        inner = content.strip() if inside else content
        before, after = content.split(inner, 1) if inner else ("", "")
        dictionary["content"] = f"{before}{opening}{inner}{closing}{after}"
    return dictionary


def _marked_spans(marked: str, opening: str, closing: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    position = start = 0
    for character in marked:
        if character == opening:
            start = position
        elif character == closing:
            spans.append((start, position))
        else:
            position += 1
    return spans
