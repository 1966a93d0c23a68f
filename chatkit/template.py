"""The chat template: the only place where messages become tokens."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from chatkit.errors import TemplateError
from chatkit.jinja import as_dictionary, compile_template
from chatkit.marks import Mark, Marks, Place, Reading, search
from chatkit.messages import Message
from chatkit.rendering import Cutter, Rendering
from chatkit.scales import Scales, Weight
from chatkit.shield import Shield, Spellings
from chatkit.tokenizer import Tokenizer


class Masked(NamedTuple):
    """Token ids of a whole conversation and, for each, whether it is trained."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]


class Added(NamedTuple):
    """About how many tokens a template writes by itself.

    Args:
        once: in any prompt.
        each: around each message.
    """

    once: float
    each: float


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
        self._cutter = Cutter(tokenizer, self._spellings.whole)
        self._scales = Scales(tokenizer, self._spellings.whole)

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

    @cached_property
    def takes_system(self) -> bool:
        """Whether it writes a system message; some templates refuse one, some drop it."""
        probe, question = "\ue010", Message("user", "\ue011")
        try:
            return probe in self.text([Message("system", probe), question])
        except TemplateError:
            return False

    @cached_property
    def added(self) -> Added:
        """What it writes by itself, measured on a turn; a guess where it refuses the turn."""
        question, reply = Message("user", "a"), Message("assistant", "b")
        try:
            one = self.rendering([question]).tokens - self.weigh(question).tokens
            three = self.rendering([question, reply, question]).tokens
        except TemplateError:
            return Added(0, 5)
        texts = 2 * self.weigh(question).tokens + self.weigh(reply).tokens
        each = (three - texts - one) / 2
        return Added(one - each, each)

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
        return self.rendering(messages, answer=answer).ids

    def rendering(self, messages: Sequence[Message], *, answer: bool = True) -> Rendering:
        """Render once, to ids and to text.

        Args and raises: as `text`.
        """
        return self._rendering(messages, self._shield(messages), answer)

    def places(self, messages: Sequence[Message], rendering: Rendering) -> list[Place]:
        """Find where the messages stand in their rendering, in the order of its text.

        A message that the template leaves out has no place; one that it repeats has several.

        Args:
            messages: the conversation.
            rendering: what `rendering` made of it, ready for an answer.
        """
        shield = self._shield(messages)
        for reading in self._readings(messages, shield, True, Marks.mark_message):
            if reading.text == rendering.text:
                return reading.places
        return search([message.content for message in messages], rendering.text)

    def weigh(self, message: Message) -> Weight:
        """Tell what a message brings into any prompt; remembered, since counting takes long."""
        return self._scales.weigh(message)

    def forget(self) -> None:
        """Forget what was remembered of people's texts, as when some of it was erased."""
        self._scales.forget()
        self.tokenizer.forget()

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
        rendering = self._rendering(messages, shield, answer=False)
        trained = [False] * rendering.tokens
        for answer in self._answers(messages, shield, rendering.text):
            turn_end = self._turn_end(answer.end, rendering)
            for index in range(rendering.ended(answer.start), rendering.ended(turn_end)):
                trained[index] = True
        return Masked(rendering.ids, tuple(trained))

    def _shield(self, messages: Sequence[Message]) -> Shield:
        texts = [part for m in messages for part in (m.content, m.name or "", m.reasoning)]
        arguments = [call.arguments for m in messages for call in m.tool_calls]
        return Shield(self._spellings, [*texts, *arguments, self.source])

    def _render(self, messages: Sequence[Message], shield: Shield, answer: bool) -> str:
        return self._render_dictionaries([as_dictionary(m, shield.cover) for m in messages], answer)

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

    def _rendering(self, messages: Sequence[Message], shield: Shield, answer: bool) -> Rendering:
        rendered = self._render(messages, shield, answer)
        return Rendering(
            shield.uncover(rendered), list(self._cutter.pieces(rendered, shield.uncover))
        )

    def _readings(
        self, messages: Sequence[Message], shield: Shield, answer: bool, mark: Mark
    ) -> Iterator[Reading]:
        """Render with marks around texts, outside and inside of their outer white space."""
        opening, closing = shield.fresh(), shield.fresh()
        for inside in (False, True):
            marks = Marks(opening, closing, inside=inside)
            dictionaries = [as_dictionary(message, shield.cover) for message in messages]
            for index, dictionary in enumerate(dictionaries):
                mark(marks, index, dictionary)
            try:
                marked = self._render_dictionaries(dictionaries, answer)
            except TemplateError:
                continue
            yield marks.read(shield.uncover(marked))

    def _answers(self, messages: Sequence[Message], shield: Shield, text: str) -> list[Place]:
        """Find where each answer begins and ends, with marks that leave no trace."""
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        for reading in self._readings(messages, shield, False, Marks.mark_answer):
            found = sorted(place.message for place in reading.places)
            if reading.text == text and reading.paired and found == answers:
                return reading.places
        raise TemplateError(
            "The chat template drops or rewrites an assistant's answer, so what would be "
            "trained cannot be proved; train on conversations that it keeps whole."
        )

    def _turn_end(self, end: int, rendering: Rendering) -> int:
        """Find where the control token after an answer ends, as a position in the text."""
        after = (p for p in rendering.pieces if p.control and p.start >= end)
        closing = next(after, None)
        if closing is None:
            raise TemplateError(
                "No control token ends an assistant's turn in this chat template, so a trained "
                "model would never learn to stop; use a template that closes each turn."
            )
        if between := rendering.text[end : closing.start].strip():
            raise TemplateError(
                f"The chat template writes {between!r} after an answer, which "
                "would be trained too; use a template that closes each turn at once."
            )
        return closing.start + closing.encoded.ends[-1]

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
