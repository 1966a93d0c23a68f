"""The chat template: the only place where messages become tokens."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from chatkit.errors import TemplateError
from chatkit.jinja import as_dictionary, compile_template, covered
from chatkit.marks import Mark, Marks, Place, Reading, search
from chatkit.messages import Message, Tool
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


class _Said(NamedTuple):
    """What is rendered, with what keeps spellings of control tokens in it plain text."""

    messages: Sequence[Message]
    tools: Sequence[Tool]
    shield: Shield


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

    @cached_property
    def takes_tools(self) -> bool:
        """Whether it writes the definitions of tools; many templates drop them."""
        probe = {"type": "function", "function": {"name": "\ue010", "parameters": {}}}
        try:
            return "\ue010" in self.rendering([Message("user", "\ue011")], tools=[probe]).text
        except TemplateError:
            return False

    def text(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """Render to text, as a person may read it.

        Args:
            messages: the conversation, oldest first.
            answer: whether to end with the beginning of an assistant's turn.

        Raises:
            TemplateError: the template refuses these messages.
        """
        said = self._say(messages)
        return said.shield.uncover(self._render(said, answer))

    def render(
        self, messages: Sequence[Message], *, answer: bool = True, tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:
        """Render to token ids.

        Args and raises: as `rendering`.
        """
        return self.rendering(messages, answer=answer, tools=tools).ids

    def rendering(
        self, messages: Sequence[Message], *, answer: bool = True, tools: Sequence[Tool] = ()
    ) -> Rendering:
        """Render once, to ids and to text.

        Args:
            messages: as in `text`.
            answer: as in `text`.
            tools: definitions of the functions that the assistant may call.

        Raises: as `text`.
        """
        return self._rendering(self._say(messages, tools), answer)

    def places(self, messages: Sequence[Message], rendering: Rendering) -> list[Place]:
        """Find where the messages stand in their rendering, in the order of its text.

        A message that the template leaves out has no place; one that it repeats has several.

        Args:
            messages: the conversation.
            rendering: what `rendering` made of it, ready for an answer.
        """
        for reading in self._readings(self._say(messages), True, Marks.mark_message):
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

    def mask(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Masked:
        """Render a finished conversation and mark exactly the assistant's answers.

        Trained is each answer from its first character through the control token that ends the
        turn, and nothing else; of an answer with calls, all that the template makes of it.

        Args:
            messages: the conversation, oldest first.
            tools: as in `rendering`.

        Raises:
            TemplateError: an answer is not in the rendered text exactly once and unchanged, or
                no control token ends its turn.
        """
        said = self._say(messages, tools)
        rendering = self._rendering(said, answer=False)
        trained = [False] * rendering.tokens
        answers = self._answers(said, rendering.text)
        spans = [(answer.start, self._turn_end(answer.end, rendering)) for answer in answers]
        calling = [index for index, message in enumerate(messages) if message.tool_calls]
        spans += [self._calling_span(said, index, rendering) for index in calling]
        for start, end in spans:
            for index in range(rendering.ended(start), rendering.ended(end)):
                trained[index] = True
        return Masked(rendering.ids, tuple(trained))

    def _say(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> _Said:
        texts = [part for m in messages for part in (m.content, m.name or "", m.reasoning)]
        arguments = [call.arguments for m in messages for call in m.tool_calls]
        defined = [json.dumps(tool, ensure_ascii=False) for tool in tools]
        shield = Shield(self._spellings, [*texts, *arguments, *defined, self.source])
        return _Said(messages, tools, shield)

    def _render(self, said: _Said, answer: bool) -> str:
        cover = said.shield.cover
        dictionaries = [as_dictionary(message, cover) for message in said.messages]
        return self._render_dictionaries(dictionaries, said, answer)

    def _render_dictionaries(
        self, messages: list[dict[str, Any]], said: _Said, answer: bool
    ) -> str:
        tools = [covered(tool, said.shield.cover) for tool in said.tools]
        try:
            return self._compiled.render(
                messages=messages,
                # Templates ask whether there are any, and know none by `None`.
                tools=tools or None,
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

    def _rendering(self, said: _Said, answer: bool) -> Rendering:
        rendered, uncover = self._render(said, answer), said.shield.uncover
        return Rendering(uncover(rendered), list(self._cutter.pieces(rendered, uncover)))

    def _readings(self, said: _Said, answer: bool, mark: Mark) -> Iterator[Reading]:
        """Render with marks around texts, outside and inside of their outer white space."""
        shield = said.shield
        opening, closing = shield.fresh(), shield.fresh()
        for inside in (False, True):
            marks = Marks(opening, closing, inside=inside)
            dictionaries = [as_dictionary(message, shield.cover) for message in said.messages]
            for index, dictionary in enumerate(dictionaries):
                mark(marks, index, dictionary)
            try:
                marked = self._render_dictionaries(dictionaries, said, answer)
            except TemplateError:
                continue
            yield marks.read(shield.uncover(marked))

    def _answers(self, said: _Said, text: str) -> list[Place]:
        """Find where each answer begins and ends, with marks that leave no trace."""
        answers = [
            index
            for index, message in enumerate(said.messages)
            if message.role == "assistant" and not message.tool_calls
        ]
        for reading in self._readings(said, False, Marks.mark_answer):
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

    def _calling_span(self, said: _Said, index: int, rendering: Rendering) -> tuple[int, int]:
        """Find where an answer with calls begins and ends: what the template adds with it."""
        before = self._rendering(self._say(said.messages[:index], said.tools), answer=True)
        upto = self._rendering(self._say(said.messages[: index + 1], said.tools), answer=False)
        begins = upto.text.startswith(before.text) and rendering.text.startswith(upto.text)
        ends = [p.start + p.encoded.ends[-1] for p in upto.pieces if p.control]
        if not begins or not ends or ends[-1] <= len(before.text):
            raise TemplateError(
                "The chat template writes an answer with calls otherwise than it asks for one, so "
                "what would be trained cannot be proved; use a template that only adds to a chat."
            )
        return len(before.text), ends[-1]

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
