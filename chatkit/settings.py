"""Where chatkit keeps things and what it may do, read from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    Args:
        home: `CHATKIT_HOME`, the folder that holds pulled models; default `~/.cache/chatkit`.
        offline: `CHATKIT_OFFLINE=1` forbids every use of the network.
        hub: `HF_ENDPOINT`, the address of the model hub.
        hub_token: `HF_TOKEN`, sent to the hub for gated models; None when unset.
    """

    home: Path
    offline: bool
    hub: str
    hub_token: str | None

    @property
    def models(self) -> Path:
        """The folder with one sub-folder per pulled model."""
        return self.home / "models"


def settings() -> Settings:
    """Read the settings anew, so that a changed environment counts at once."""
    environment = os.environ
    home = environment.get("CHATKIT_HOME") or Path.home() / ".cache" / "chatkit"
    return Settings(
        home=Path(home).expanduser().absolute(),
        offline=environment.get("CHATKIT_OFFLINE", "").lower() in ("1", "true", "yes"),
        hub=(environment.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"),
        hub_token=environment.get("HF_TOKEN") or None,
    )
