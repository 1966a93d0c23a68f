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
_LISTS = ("pinned", "prompts", "folders")
_MOST_FOLDERS, _MOST_FILED = 50, 500
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
        previews: whether links in answers show what they lead to, where that is allowed.
        trains: whether what is said and voted may train models.
        pinned: the conversations that stand first.
        folders: names of folders, each with the conversations in it.
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
    previews: bool = False
    trains: bool = False
    pinned: tuple[str, ...] = ()
    folders: tuple[tuple[str, tuple[str, ...]], ...] = ()
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

    @property
    def in_folders(self) -> dict[str, str]:
        """The folder of each conversation that is in one."""
        return {id: name for name, ids in self.folders for id in ids}

    def file(self, conversation: str, folder: str) -> "Preferences":
        """Give them with a conversation in a folder, or in none when the name is empty.

        A folder that nothing is in is no folder.

        Raises:
            InputError: the name is too long, or there are too many folders or conversations.
        """
        folder = _folder_name(folder)
        folders = {
            name: tuple(one for one in ids if one != conversation) for name, ids in self.folders
        }
        if folder:
            folders[folder] = (conversation, *folders.get(folder, ()))
        return self._with_folders(folders)

    def rename_folder(self, folder: str, name: str) -> "Preferences":
        """Give them with a folder under another name, or dissolved when that is empty.

        Raises:
            InputError: the name is too long.
        """
        name, folders = _folder_name(name), dict(self.folders)
        moved = folders.pop(folder, ())
        if name:
            folders[name] = (*moved, *folders.get(name, ()))
        return self._with_folders(folders)

    def _with_folders(self, folders: Mapping[str, tuple[str, ...]]) -> "Preferences":
        filled = tuple(sorted((name, ids) for name, ids in folders.items() if ids))
        count = sum(len(ids) for _, ids in filled)
        if len(filled) > _MOST_FOLDERS or count > _MOST_FILED:
            raise InputError(
                f"There would be {len(filled)} folders with {count} conversations; there may be "
                f"{_MOST_FOLDERS} with {_MOST_FILED}."
            )
        return replace(self, folders=filled)

    def to_json(self) -> dict[str, Any]:
        """Write them as they are stored and sent to the page."""
        prompts = [{"name": name, "text": text} for name, text in self.prompts]
        folders = [{"name": name, "conversations": list(ids)} for name, ids in self.folders]
        lists = {"pinned": list(self.pinned), "folders": folders, "prompts": prompts}
        return asdict(self) | lists


def _folder_name(name: str) -> str:
    plain = " ".join(name.split())
    if len(plain) > _LONGEST_NAME:
        raise InputError(
            f"The folder's name has {len(plain)} characters and may have {_LONGEST_NAME}."
        )
    return plain


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
    kept = replace(
        Preferences(), pinned=_names(said.get("pinned"))[:_MOST_PINNED], folders=_folders(said)
    )
    try:
        return kept.changed(said)
    except InputError:
        return kept


def _folders(said: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, tuple[str, ...]] = {}
    folders = said.get("folders")
    for one in folders if isinstance(folders, list) else []:
        match one:
            case {"name": str(name), "conversations": list(ids)}:
                found[name] = _names(ids)
    return tuple(sorted(found.items()))


def _names(said: Any) -> tuple[str, ...]:
    return tuple(one for one in said if isinstance(one, str)) if isinstance(said, list) else ()
