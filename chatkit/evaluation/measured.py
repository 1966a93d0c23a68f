"""What was measured of the models on this machine, kept beside their files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from chatkit.loading.folder import folder_named
from chatkit.naming import parse_name
from chatkit.store.whole_file import whole_file

FILE = "drift.json"


@dataclass(frozen=True, slots=True)
class MeasuredDrift:
    """How far a quantised model was found to be from its reference.

    Args:
        model: its name as it was asked for, with the engine.
        against: the reference.
        prompts: on how many prompts.
        steps: on how many tokens.
        agreement: the share of them that both find likeliest.
        divergence: the mean Kullback-Leibler divergence in nats.
        at: when, as an ISO date.
    """

    model: str
    against: str
    prompts: int
    steps: int
    agreement: float
    divergence: float
    at: str


def note_drift(found: MeasuredDrift) -> bool:
    """Keep a measurement beside the model's files, in place of an earlier one.

    Returns:
        Whether there is a place: servers and models outside of the catalogue have none.
    """
    name = parse_name(found.model)
    if name.kind not in ("catalogue", "hub"):
        return False
    folder = folder_named(name.target).path
    if not folder.is_dir():
        return False
    with whole_file(folder / FILE, replace=True) as file:
        file.write((json.dumps(asdict(found), indent=2) + "\n").encode())
    return True


def read_drift(name: str) -> MeasuredDrift | None:
    """Give what was measured of a model; None when nothing was, or nobody can read it.

    Args:
        name: a catalogue name, or `org/name`.
    """
    path: Path = folder_named(name).path / FILE
    try:
        return MeasuredDrift(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
