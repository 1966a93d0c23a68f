"""A comparison as files: all of it, or its votes as preference pairs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chatkit.comparison.result import Ballot, Comparison, Reply
from chatkit.errors import InputError
from chatkit.messages import Message, as_messages
from chatkit.stats.ratings import Vote
from chatkit.store.whole_file import whole_file

VERSION = 1


def save(comparison: Comparison, path: Path) -> None:
    """Write a comparison to a JSON file, in one step."""
    said = {
        "version": VERSION,
        "models": comparison.models,
        "prompts": [_records(prompt) for prompt in comparison.prompts],
        "replies": [
            {"prompt": place, "model": model} | asdict(reply)
            for (place, model), reply in comparison.replies.items()
        ],
        "memory": comparison.memory,
        "templates": comparison.templates,
        "ballots": [asdict(ballot) for ballot in comparison.ballots],
        "price": comparison.price,
    }
    with whole_file(path, replace=True) as file:
        file.write(json.dumps(said, ensure_ascii=False, indent=1).encode())


def load(path: Path) -> Comparison:
    """Read what `save` wrote.

    Raises:
        InputError: the file is no comparison.
    """
    try:
        said = json.loads(path.read_text("utf-8"))
        if said["version"] != VERSION:
            raise InputError(
                f"{path} is a comparison of version {said['version']} and this chatkit reads "
                f"{VERSION}."
            )
        return Comparison(
            tuple(said["models"]),
            tuple(as_messages(prompt) for prompt in said["prompts"]),
            {(r.pop("prompt"), r.pop("model")): Reply(**r) for r in said["replies"]},
            said["memory"],
            said["templates"],
            [Ballot(**(one | {"vote": Vote(*one["vote"])})) for one in said["ballots"]],
            said["price"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no comparison ({error}); give one that save wrote.") from None


def write_preferences(comparison: Comparison, ballots: Sequence[Ballot], path: Path) -> int:
    """Write votes as preference pairs, and give their number.

    Raises:
        InputError: no vote prefers an answer.
    """
    lines = [pair for ballot in ballots if (pair := _pair(comparison, ballot))]
    if not lines:
        raise InputError("No vote prefers an answer; vote first.")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return len(lines)


def _pair(comparison: Comparison, ballot: Ballot) -> dict[str, Any] | None:
    first, second, won = ballot.vote
    if won == 0.5:
        return None
    best, worst = (first, second) if won else (second, first)
    chosen, rejected = (comparison.replies[ballot.prompt, name].text for name in (best, worst))
    if chosen == rejected:
        return None
    asked = {"prompt": _records(comparison.prompts[ballot.prompt])}
    made_by = {"chosen_model": best, "rejected_model": worst}
    return asked | {"chosen": chosen, "rejected": rejected} | made_by


def _records(prompt: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]
