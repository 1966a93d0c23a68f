"""What a message of ChatGPT's export says, as text that a person can read.

OpenAI publishes no specification. The kinds of content are those that people found in their own
exports until 2026; of an unknown kind the text is taken, or a note stands for it.
"""

import re
from typing import Any

from chatkit.exchange.fields import Fields
from chatkit.exchange.place import shown

# What is not what anyone said: the summary "Thought for 12 seconds", and remembered facts.
UNSAID = frozenset(("reasoning_recap", "model_editable_context"))
_SOURCES = frozenset(("tether_quote", "sonic_webpage"))
_CODE = frozenset(("code", "execution_output"))
_NOTES = {
    "image_asset_pointer": "[image]",
    "audio_asset_pointer": "[audio]",
    "real_time_user_audio_video_asset_pointer": "[audio]",
    "video_container_asset_pointer": "[video]",
}
_LANGUAGE = re.compile(r"[\w+#-]{1,30}")
_TICKS = re.compile(r"`{3,}")


def text_of(message: Fields) -> str:
    """Give what a message says; empty when it says nothing.

    Raises:
        ImportRefused: the content is of a form that no export has.
    """
    content = message.part("content")
    files = _files(message.part("metadata"))
    text = "\n\n".join(part for part in (_content(content), *files) if part.strip())
    return message.checked(text, "content")


def thoughts_of(content: Fields) -> str:
    """Give a model's thinking from content of the kind `thoughts`.

    Raises:
        ImportRefused: the content is of a form that no export has.
    """
    thoughts = [_texts(thought, "summary", "content") for thought in content.parts("thoughts")]
    return "\n\n".join(text for text in (*thoughts, *_parts(content)) if text)


def instructions_of(message: Fields) -> str | None:
    """Give the instructions that a person wrote for all conversations; None for other messages.

    Raises:
        ImportRefused: they are not text.
    """
    content = message.part("content")
    given = message.part("metadata").part("user_context_message_data")
    if content.values.get("content_type") != "user_editable_context" and not given.values:
        return None
    return _texts(given, "about_user_message", "about_model_message") or _texts(
        content, "user_profile", "user_instructions"
    )


def _content(content: Fields) -> str:
    kind = content.optional_text("content_type") or "text"
    if kind in _CODE:
        return _fenced(_texts(content, "text"), content.optional_text("language") or "")
    if kind in _SOURCES:
        return _texts(content, "title", "url", "text")
    if kind == "tether_browsing_display":
        return _texts(content, "result") or _texts(content, "summary")
    if kind == "system_error":
        return _texts(content, "name", "text")
    if "parts" in content.values:
        return "\n\n".join(text for text in _parts(content) if text)
    return _texts(content, "text") or ("" if kind == "text" else _note(kind))


def _parts(content: Fields) -> list[str]:
    return [_part(part, content) for part in content.items("parts")]


def _part(part: Any, content: Fields) -> str:
    if part is None:
        return ""
    if isinstance(part, str):
        return content.checked(part, "parts")
    if not isinstance(part, dict):
        raise content.refused("'parts' holds neither text nor objects")
    fields = Fields(part, content.place, content.budget)
    kind = fields.optional_text("content_type") or "attachment"
    return _NOTES.get(kind) or _texts(fields, "text") or _note(kind)


def _files(metadata: Fields) -> list[str]:
    """Name the files that were attached; pictures have a note of their own."""
    return [
        f"[file: {shown(attached.optional_text('name') or 'without name')}]"
        for attached in metadata.parts("attachments")
        if not str(attached.values.get("mime_type")).startswith("image/")
    ]


def _note(kind: str) -> str:
    return f"[{shown(kind.replace('_', ' '))}]"


def _texts(fields: Fields, *names: str) -> str:
    """Join the texts of those fields that have some."""
    texts = (fields.optional_text(name) for name in names)
    return "\n\n".join(text for text in texts if text)


def _fenced(text: str, language: str) -> str:
    if not text.strip():
        return ""
    known = language if language != "unknown" and _LANGUAGE.fullmatch(language) else ""
    ticks = max((len(found) for found in _TICKS.findall(text)), default=2) + 1
    return f"{'`' * ticks}{known}\n{text}\n{'`' * ticks}"
