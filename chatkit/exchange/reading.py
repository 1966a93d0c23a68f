"""Reads whatever is brought: the kind is seen from the content, and all or nothing is given."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from chatkit.exchange.archive import opened_files
from chatkit.exchange.chatgpt import is_chatgpt, read_chatgpt
from chatkit.exchange.fields import Fields, parse
from chatkit.exchange.limits import DEFAULT_LIMITS, Budget, Limits
from chatkit.exchange.own import HEADER, TAIL, check_version, is_own, read_own
from chatkit.exchange.place import Place
from chatkit.exchange.portable import Portable
from chatkit.exchange.scanning import Scanner
from chatkit.exchange.sharegpt import is_sharegpt, read_sharegpt

Reader = Callable[[Fields], Portable]
_LIST = re.compile(r"\[")
_OBJECT = re.compile(r"(?=\{)")
_CHOOSE = "choose a file that chatkit, ChatGPT or a tool for ShareGPT exported"


def read_conversations(
    source: Path | IO[bytes], limits: Limits = DEFAULT_LIMITS, name: str | None = None
) -> tuple[Portable, ...]:
    """Read all conversations of an export: chatkit's, ChatGPT's in both its forms, or ShareGPT.

    Nothing is given unless all could be read, so that a caller stores all or nothing. Ids are
    unique among the conversations, and among the messages of one conversation, but nowhere else.

    Args:
        source: a file (JSON, JSON lines, or a zip of these), a folder with an unpacked export, or
            a file that is open for bytes.
        limits: the bounds of what is read.
        name: what to call it in sentences; None takes its own name.

    Raises:
        ImportRefused: it is broken, hostile, too large or of an unknown kind; the place is named.
        OSError: the file cannot be read.
    """
    own_name = source.absolute().name if isinstance(source, Path) else "the file"
    budget = Budget(limits)
    found: dict[str, Portable] = {}
    with closing(opened_files(source, name or own_name, budget)) as files:
        for place, file in files:
            for reader, record in _records(Scanner(file, place, budget), budget):
                conversation = reader(record)
                if conversation.id in found:
                    raise record.refused("another conversation has the same id")
                found[conversation.id] = conversation
    return tuple(found.values())


def _records(scanner: Scanner, budget: Budget) -> Iterator[tuple[Reader, Fields]]:
    """Give the conversations of one file as they stand there, each with who can read it."""
    if header := scanner.starts(HEADER):
        check_version(int(header[1]), scanner.place)
        for text in scanner.listed():
            yield read_own, _fields(parse(text, scanner.place), scanner.place, budget)
        scanner.ends(TAIL)
    elif scanner.starts(_LIST):
        for text in scanner.listed():
            yield from _recognised(parse(text, scanner.place), scanner.place, budget)
        scanner.ends("")
    elif scanner.starts(_OBJECT):
        for text in scanner.documents():
            yield from _recognised(parse(text, scanner.place), scanner.place, budget)
    else:
        raise scanner.place.refused("it is neither JSON nor a zip", _CHOOSE)


def _recognised(value: Any, place: Place, budget: Budget) -> Iterator[tuple[Reader, Fields]]:
    if is_chatgpt(value):
        yield read_chatgpt, _fields(value, place, budget)
    elif is_own(value) or _is_wrapped(value):
        yield from _unwrapped(_fields(value, place, budget))
    elif is_sharegpt(value):
        yield read_sharegpt, _fields(value, place, budget)
    else:
        raise place.refused("it is no conversation of a known kind", _CHOOSE)


def _is_wrapped(value: Any) -> bool:
    """Tell whether ChatGPT's conversations are in a list inside of an object."""
    inside = value.get("conversations") if isinstance(value, dict) else None
    return isinstance(inside, list) and any(is_chatgpt(item) for item in inside)


def _unwrapped(document: Fields) -> Iterator[tuple[Reader, Fields]]:
    """Give the conversations of a document that could not be read one by one."""
    document.needs("conversations")
    ours = is_own(document.values)
    if ours:
        check_version(document.number("version"), document.place)
    for number, inside in enumerate(document.parts("conversations"), 1):
        document.budget.spend("conversations", 1, document.place)
        place = Place(document.place.file, number)
        yield read_own if ours else read_chatgpt, Fields(inside.values, place, document.budget)


def _fields(value: Any, place: Place, budget: Budget) -> Fields:
    if not isinstance(value, dict):
        raise place.refused("it is a list and not an object", _CHOOSE)
    return Fields(value, place, budget)
