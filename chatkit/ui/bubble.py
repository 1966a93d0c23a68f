"""What the page shows of one message."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Literal

from chatkit.ledger import Ledger
from chatkit.shelf import Shown
from chatkit.store.records import AnswerFacts
from chatkit.ui.previews import Preview

State = Literal["sent", "queued", "streaming", "done", "stopped", "interrupted", "failed"]

INTERRUPTED = "The server was stopped while writing; what had come is kept."


@dataclass(slots=True)
class Bubble:
    """One message on the page.

    Args:
        id: its name.
        role: who speaks.
        state: a question is `sent`; an answer is on its way, or over in one way or another.
        text: a question, as it was asked.
        blocks: an answer's ended blocks as safe HTML.
        tail: the safe HTML of the block that is still open.
        steps: how often `blocks` has grown since it was first shown.
        note: small print under it.
        error: what went wrong, in one sentence.
        siblings: the messages in its place, oldest first, itself included.
        thumb: what its reader thinks of it.
        tags: why, in a word each.
        comment: why, in a sentence.
        created: when it was said, in seconds since 1970.
        left_out: what the model was not given of the conversation, a heading and then reasons.
        previews: what its links lead to.
    """

    id: str
    role: Literal["user", "assistant"]
    state: State
    text: str = ""
    blocks: list[str] = field(default_factory=list)
    tail: str = ""
    steps: int = 0
    note: str = ""
    error: str = ""
    siblings: Sequence[str] = ()
    thumb: Literal["up", "down"] | None = None
    tags: Sequence[str] = ()
    comment: str = ""
    created: float = 0.0
    left_out: Sequence[str] = ()
    previews: Sequence[Preview] = ()

    @property
    def pending(self) -> bool:
        """Whether more is to come."""
        return self.state in ("queued", "streaming")

    def to_json(self) -> dict[str, Any]:
        """Give what the browser needs; of an answer that is never the raw text."""
        return {
            "id": self.id,
            "role": self.role,
            "state": self.state,
            "text": self.text,
            "html": "".join(self.blocks),
            "tail": self.tail,
            "steps": self.steps,
            "note": self.note,
            "error": self.error,
            "siblings": list(self.siblings),
            "thumb": self.thumb,
            "tags": list(self.tags),
            "comment": self.comment,
            "created": self.created,
            "leftOut": list(self.left_out),
            "previews": [asdict(one) for one in self.previews],
        }


def bubble_of(shown: Shown, html: str) -> Bubble:
    """Make the bubble of a stored message.

    Args:
        shown: the message.
        html: what is said in an answer, as safe HTML; empty for a question.
    """
    node = shown.node
    if node.message.role == "user":
        bubble = Bubble(node.id, "user", "sent", siblings=shown.siblings, created=node.created)
        bubble.text = node.message.content
        return bubble
    bubble = Bubble(node.id, "assistant", "done", siblings=shown.siblings, created=node.created)
    bubble.blocks.append(html)
    opinion = shown.feedback
    bubble.thumb, bubble.tags, bubble.comment = opinion.thumb, opinion.tags, opinion.comment
    if node.facts is not None:
        bubble.state = _state(node.facts)
        bubble.note = small_print(node.facts)
        bubble.error = node.facts.error[1] if node.facts.error else ""
    if bubble.state == "interrupted":
        bubble.error = INTERRUPTED
    return bubble


def small_print(facts: AnswerFacts) -> str:
    """Say who wrote an answer and what it took."""
    if facts.status == "failed":
        return f"{facts.model} · request {facts.request_id}"
    parts = [facts.model]
    if facts.prompt_tokens is not None and facts.completion_tokens is not None:
        parts.append(f"{facts.prompt_tokens:,} tokens read, {facts.completion_tokens:,} written")
        seconds = facts.stage_seconds.get("writing", 0.0)
        if seconds and facts.completion_tokens > 1:
            parts.append(f"{(facts.completion_tokens - 1) / seconds:,.0f} tokens/s")
    if facts.finish == "length":
        parts.append("ended by the longest length")
    if facts.status == "stopped":
        parts.append("stopped")
    return " · ".join(parts)


def left_out(ledger: Ledger) -> tuple[str, ...]:
    """Say what of a conversation a model was not given, a heading and then the reasons."""
    lines = [line for line in ledger.lines if line.fate != "sent"]
    plain = [line for line in ledger.lines if line.neutralised]
    headings = [
        *_counts(lines),
        *([f"{_messages(len(plain))} taken as plain text"] if plain else []),
    ]
    if not headings:
        return ()
    reasons = [
        f"{_messages(len(list(same)))} {fate}: {why}."
        for (fate, why), same in groupby(lines, lambda line: (line.fate, line.why))
    ]
    for line in plain:
        spelt = ", ".join(line.neutralised)
        reasons.append(f"A message spells {spelt}; the model was given that as plain text.")
    window = f"{ledger.prompt_tokens:,} of {ledger.window:,} tokens were used for the prompt"
    kept = f"{ledger.answer:,} were kept free for the answer"
    return (", ".join(headings), *reasons, f"{window}; {kept}.")


def _counts(lines: Sequence[Any]) -> Iterator[str]:
    for fate in ("left out", "summarised"):
        if count := sum(line.fate == fate for line in lines):
            yield f"{_messages(count, 'earlier ')} {fate}"


def _messages(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}message was" if count == 1 else f"{count:,} {kind}messages were"


def _state(facts: AnswerFacts) -> State:
    return "streaming" if facts.status == "running" else facts.status
