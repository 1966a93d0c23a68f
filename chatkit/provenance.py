"""Where a result was made: versions, commit, machine."""

import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chatkit.hardware import probe


def made_with(packages: Iterable[str]) -> dict[str, Any]:
    """Tell versions, the commit of the present folder, and the machine.

    Args:
        packages: distributions whose versions count; None stands for one that is not there.
    """
    return {
        "packages": {name: _version(name) for name in packages},
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "hardware": str(probe()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Name the commit of the present folder, where it is in a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
