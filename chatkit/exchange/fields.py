"""The fields of a JSON object from a stranger: each is asked for by its type, and checked."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from chatkit.errors import ImportRefused, InputError
from chatkit.exchange.limits import Budget
from chatkit.exchange.place import AGAIN, Place, shown
from chatkit.messages import check_text

IDENTIFIER_CHARACTERS = 200
_CLEAN = "remove them, or export it again"
_JSON_NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "an object",
}
Value = TypeVar("Value")


class _Unusable(ValueError):
    """JSON that can be parsed, and means nothing or two things."""


def parse(text: str, place: Place) -> Any:
    """Read JSON strictly: no key twice, no NaN.

    Raises:
        ImportRefused: it is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (json.JSONDecodeError, _Unusable) as error:
        raise place.refused(f"its JSON is broken ({error})") from None
    except ValueError:
        raise place.refused("a number in it has thousands of digits") from None


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, with the place where it stands.

    Every method refuses what is missing, of another type, or nothing that can be stored, with an
    `ImportRefused` that names the place.

    Args:
        values: the object.
        place: for the sentence that refuses it.
        budget: what is left of the limits.
    """

    values: Mapping[str, Any]
    place: Place
    budget: Budget

    def refused(self, cause: str, fix: str = AGAIN) -> ImportRefused:
        """Make the error that names this place."""
        return self.place.refused(cause, fix)

    def only(self, names: frozenset[str]) -> None:
        """Refuse fields of other names."""
        unknown = sorted(set(self.values) - names)
        if unknown:
            raise self.refused(
                f"the field '{shown(unknown[0])}' is unknown",
                "import it with the chatkit that wrote it",
            )

    def needs(self, name: str) -> None:
        """Refuse an object in which a field is missing or null."""
        if self.values.get(name) is None:
            raise self.refused(f"'{name}' is missing")

    def text(self, name: str) -> str:
        """Give a text that UTF-8 and every database can hold."""
        return self.checked(self._typed(name, str), name)

    def optional_text(self, name: str) -> str | None:
        """Give a text, None where it is missing or null."""
        return None if self.values.get(name) is None else self.text(name)

    def identifier(self, name: str) -> str:
        """Give a text that names something."""
        return self.checked_identifier(self._typed(name, str), name)

    def optional_identifier(self, name: str) -> str | None:
        """Give the name of something, None where it is missing or null."""
        return None if self.values.get(name) is None else self.identifier(name)

    def flag(self, name: str) -> bool:
        """Give true or false; false where it is missing."""
        return self._typed(name, bool) if name in self.values else False

    def number(self, name: str) -> int:
        """Give a whole number."""
        return self._typed(name, int)

    def part(self, name: str) -> "Fields":
        """Give an object inside this one; an empty one where it is missing or null."""
        absent = self.values.get(name) is None
        return Fields({} if absent else self._typed(name, dict), self.place, self.budget)

    def items(self, name: str) -> list[Any]:
        """Give a list; an empty one where it is missing or null."""
        return [] if self.values.get(name) is None else self._typed(name, list)

    def parts(self, name: str) -> Iterator["Fields"]:
        """Give the objects in a list, one after the other."""
        for item in self.items(name):
            if not isinstance(item, dict):
                raise self.refused(f"'{name}' holds {_json_name(item)} where an object belongs")
            yield Fields(item, self.place, self.budget)

    def moment(self, name: str) -> datetime:
        """Give a date in ISO 8601 with its time zone, as UTC."""
        text = self._typed(name, str)
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.refused(
                f"'{name}' is '{shown(text)}'", "write it like 2026-03-01T12:00:00+00:00"
            ) from None

    def seconds(self, name: str) -> datetime | None:
        """Give a date that is stored as seconds since 1970; None where it is missing or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._of_another_type(name, "a number of seconds")
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            raise self.refused(f"'{name}' is no date between the years 1 and 9999") from None

    def data(self, name: str) -> dict[str, Any]:
        """Give an object of any JSON values; an empty one where it is missing."""
        value: dict[str, Any] = self._typed(name, dict) if name in self.values else {}
        waiting: list[Any] = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                waiting += [*item, *item.values()]
            elif isinstance(item, list):
                waiting += item
            elif isinstance(item, str):
                self.checked(item, name)
            elif isinstance(item, float) and not math.isfinite(item):
                raise self.refused(f"'{name}' holds a number that is not finite")
            self.budget.spend("values", 1, self.place)
        return value

    def checked(self, text: str, name: str) -> str:
        """Refuse a text that is too long, or that UTF-8 or a database cannot hold."""
        allowed = self.budget.limits.message_characters
        if len(text) > allowed:
            raise self.refused(
                f"'{name}' has {len(text):,} characters and {allowed:,} are allowed",
                "shorten it, or raise the limit if you trust the file",
            )
        if "\0" in text:
            raise self.refused(f"'{name}' holds NUL characters", _CLEAN)
        try:
            check_text(text)
        except InputError:
            raise self.refused(f"'{name}' holds halves of surrogate pairs", _CLEAN) from None
        return text

    def checked_identifier(self, text: str, name: str) -> str:
        """Refuse a text that is too short or too long to name something."""
        if not 0 < len(text) <= IDENTIFIER_CHARACTERS:
            raise self.refused(f"'{name}' does not have 1 to {IDENTIFIER_CHARACTERS} characters")
        return self.checked(text, name)

    def _typed(self, name: str, kind: type[Value]) -> Value:
        if name not in self.values:
            raise self.refused(f"'{shown(name)}' is missing")
        value = self.values[name]
        if not isinstance(value, kind):
            raise self._of_another_type(name, _JSON_NAMES[kind.__name__])
        return value

    def _of_another_type(self, name: str, wanted: str) -> ImportRefused:
        return self.refused(f"'{shown(name)}' is {_json_name(self.values[name])} and not {wanted}")


def _json_name(value: object) -> str:
    return _JSON_NAMES[type(value).__name__]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise _Unusable(f"the key '{shown(twice)}' is there twice")
    return found


def _constant(name: str) -> None:
    raise _Unusable(f"{name} is no number")
