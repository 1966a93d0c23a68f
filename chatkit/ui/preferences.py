"""What a visitor prefers: looks, keys, and which conversations are pinned."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from chatkit.errors import InputError

Theme = Literal["system", "light", "dark", "contrast"]
SMALLEST, LARGEST = 12, 24
_MOST_PINNED = 200
_MOST_PROMPTS, _LONGEST_NAME, _LONGEST_PROMPT = 100, 40, 10_000
_LISTS = ("pinned", "prompts")
# As much of BCP 47 as dates need.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")


@dataclass(frozen=True, slots=True)
class Preferences:
    """How the page looks and behaves for one person.

    Args:
        theme: `contrast` is the one of high contrast; `system` follows the machine.
        text_size: in pixels.
        language: in which dates are written, as in `de` or `pt-BR`; empty is the browser's own.
        still: whether nothing moves.
        enter_sends: whether Enter sends; otherwise it begins a line, and Ctrl+Enter sends.
        speaks: whether finished answers are read to screen readers.
        notifies: whether the browser tells of a long answer that ended out of sight.
        trains: whether what is said and voted may train models.
        pinned: the conversations that stand first.
        prompts: texts by their names, with `{{variables}}` in them.

    Raises:
        InputError: a value is none of those that there are.
    """

    theme: Theme = "system"
    text_size: int = 16
    language: str = ""
    still: bool = False
    enter_sends: bool = True
    speaks: bool = True
    notifies: bool = False
    trains: bool = False
    pinned: tuple[str, ...] = ()
    prompts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.theme not in get_args(Theme):
            raise InputError(
                f"There is no theme {self.theme!r}; use one of {', '.join(get_args(Theme))}."
            )
        if self.language and not _LANGUAGE.fullmatch(self.language):
            raise InputError(
                f"There is no language {self.language[:40]!r}; give a tag like de or pt-BR."
            )
        if not SMALLEST <= self.text_size <= LARGEST:
            raise InputError(
                f"The text size is {self.text_size}; use {SMALLEST} to {LARGEST} pixels."
            )

    def changed(self, said: Mapping[str, Any]) -> "Preferences":
        """Give them with what somebody said; what is of another kind is left as it was.

        Raises:
            InputError: a value is none of those that there are.
        """
        known = {one.name: type(getattr(self, one.name)) for one in fields(self)}
        fitting = {
            name: value
            for name, value in said.items()
            if name in known and name not in _LISTS and type(value) is known[name]
        }
        if isinstance(said.get("prompts"), list):
            fitting["prompts"] = _prompts(said["prompts"])
        return replace(self, **fitting)

    def pin(self, conversation: str, pinned: bool) -> "Preferences":
        """Give them with a conversation pinned, or no longer."""
        others = tuple(one for one in self.pinned if one != conversation)
        return replace(self, pinned=((conversation, *others) if pinned else others)[:_MOST_PINNED])

    def to_json(self) -> dict[str, Any]:
        """Write them as they are stored and sent to the page."""
        prompts = [{"name": name, "text": text} for name, text in self.prompts]
        return asdict(self) | {"pinned": list(self.pinned), "prompts": prompts}


def _prompts(said: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Read prompts, the last of each name.

    Raises:
        InputError: there are too many, or one is too long.
    """
    found: dict[str, str] = {}
    for one in said:
        match one:
            case {"name": str(name), "text": str(text)} if name.strip() and text.strip():
                found[name] = text
    if len(found) > _MOST_PROMPTS:
        raise InputError(f"There are {len(found)} prompts and may be {_MOST_PROMPTS}; delete some.")
    for name, text in found.items():
        if len(name) > _LONGEST_NAME or len(text) > _LONGEST_PROMPT:
            raise InputError(
                f"The prompt {name[:_LONGEST_NAME]!r} has {len(text):,} characters; a name may "
                f"have {_LONGEST_NAME} and a text {_LONGEST_PROMPT:,}."
            )
    return tuple(found.items())


def read_preferences(said: Any) -> Preferences:
    """Read what was stored; what an older or newer version wrote otherwise is left out."""
    if not isinstance(said, Mapping):
        return Preferences()
    pinned = said.get("pinned")
    known = tuple(one for one in pinned if isinstance(one, str)) if isinstance(pinned, list) else ()
    try:
        return replace(Preferences().changed(said), pinned=known[:_MOST_PINNED])
    except InputError:
        return Preferences(pinned=known[:_MOST_PINNED])
