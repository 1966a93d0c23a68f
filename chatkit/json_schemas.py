"""JSON schemas that people send: whether one is well formed, and what of a value breaks it."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NoReturn

from jsonschema_rs import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
    ValidationError,
)

# Who checks schemas and values calls itself for each level, and a stack that is full ends the
# whole process.
MOST_LEVELS = 200
LATEST = "https://json-schema.org/draft/2020-12/schema"
DRAFTS = {
    "http://json-schema.org/draft-04/schema": Draft4Validator,
    "http://json-schema.org/draft-06/schema": Draft6Validator,
    "http://json-schema.org/draft-07/schema": Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": Draft201909Validator,
    LATEST: Draft202012Validator,
}


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a JSON schema, None when it is well formed.

    Nothing that it refers to is fetched. One that names no draft, or none that is known, is read
    as the latest (https://json-schema.org/draft/2020-12).

    Args:
        schema: as it was sent.
    """
    if _is_deeper(schema, MOST_LEVELS):
        return f"it is more than {MOST_LEVELS} levels deep"
    named = str(schema.get("$schema", "")).removesuffix("#")
    validator = _of_schemas(named if named in DRAFTS else LATEST)
    try:
        error = next(validator.iter_errors(dict(schema)), None)
    except ValueError as not_json:
        return str(not_json)
    return error.message if error else None


def fault_finder(schema: Mapping[str, Any]) -> Callable[[Any], str | None]:
    """Make what says how a value breaks a schema, None when it does not.

    Args:
        schema: one without a fault, of draft 2020-12.

    Raises:
        ValueError: it refers to a schema elsewhere.
    """
    try:
        validator = Draft202012Validator(dict(schema), retriever=_fetch_nothing)
    except ValidationError as error:
        raise ValueError(error.message) from None

    def fault(value: Any) -> str | None:
        if _is_deeper(value, MOST_LEVELS):
            return f"it is more than {MOST_LEVELS} levels deep"
        error = next(validator.iter_errors(value), None)
        return error.message if error else None

    return fault


@cache
def _of_schemas(draft: str) -> Any:
    return DRAFTS[draft]({"$ref": draft}, validate_formats=True, retriever=_fetch_nothing)


def _fetch_nothing(address: str) -> NoReturn:
    raise ValueError("schemas elsewhere are not fetched")


def _is_deeper(value: Any, levels: int) -> bool:
    """Tell whether lists and objects stand in each other on more than so many levels."""
    level = [value]
    for _ in range(levels + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
