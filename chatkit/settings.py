"""Where chatkit keeps things and what it may do, read from the environment."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from chatkit.errors import InputError

Auth = Literal["none", "password", "oauth"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    Args:
        home: `CHATKIT_HOME`, the folder that holds pulled models; default `~/.cache/chatkit`.
        data: the folder of what people wrote and of its keys: `CHATKIT_HOME` too, and by default
            `~/.local/share/chatkit`, since a cache may be emptied.
        offline: `CHATKIT_OFFLINE=1` forbids every use of the network.
        hub: `HF_ENDPOINT`, the address of the model hub.
        hub_token: `HF_TOKEN`, sent to the hub for gated models; None when unset.
        database: `CHATKIT_DATABASE_URL`, where conversations are; default SQLite in `data`.
        keys: `CHATKIT_KEYS_URL`, where their keys are; default another SQLite file in `data`.
        master_key: `CHATKIT_MASTER_KEY`, 64 hexadecimal digits; None reads `data/master.key`.
        redis: `CHATKIT_REDIS_URL`, for several processes; None when there is only one.
        encrypted: whether what people write is stored encrypted; `CHATKIT_ENCRYPTION=off` says no.
        answer_cache: whether answers at temperature 0 are remembered; `CHATKIT_ANSWER_CACHE=off`
            says no.
        tgi_key: `CHATKIT_TGI_API_KEY`, shown to servers named `tgi:…`; None when unset.
        openai_key: `CHATKIT_OPENAI_API_KEY`, shown to servers named `openai:…`; None when unset.
        auth: `CHATKIT_AUTH`, how people sign in to the app; default `none`, everybody is a guest.
        openid_issuer: `CHATKIT_OPENID_ISSUER`, the service that knows people when auth is `oauth`.
        openid_client_id: `CHATKIT_OPENID_CLIENT_ID`, the name under which it knows this server.
        openid_client_secret: `CHATKIT_OPENID_CLIENT_SECRET`, what this server shows to it.
        media: `CHATKIT_MEDIA_SOURCES`, origins with commas between, as `https://example.org`, from
            which the app shows images, sound and films; none by default.
        link_previews: whether people may have this server look at what links in answers lead to;
            `CHATKIT_LINK_PREVIEWS=on` says yes.
        openid_domains: `CHATKIT_OPENID_DOMAINS`, domains of mail addresses with commas between,
            whose people may come without an account made by an admin.
        retention_days: `CHATKIT_RETENTION_DAYS`, after which conversations go; None keeps them.
    """

    home: Path
    data: Path
    offline: bool
    hub: str
    hub_token: str | None
    database: str
    keys: str
    master_key: str | None
    redis: str | None
    encrypted: bool
    answer_cache: bool
    retention_days: float | None
    tgi_key: str | None = field(default=None, repr=False)
    openai_key: str | None = field(default=None, repr=False)
    auth: Auth = "none"
    openid_issuer: str = ""
    openid_client_id: str = ""
    openid_client_secret: str = field(default="", repr=False)
    openid_domains: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()
    link_previews: bool = False

    @property
    def models(self) -> Path:
        """The folder with one sub-folder per pulled model."""
        return self.home / "models"


def settings() -> Settings:
    """Read the settings anew, so that a changed environment counts at once.

    Raises:
        InputError: a setting cannot be understood.
    """
    environment = os.environ
    named = environment.get("CHATKIT_HOME")
    home = Path(named or Path.home() / ".cache" / "chatkit").expanduser().absolute()
    data = home if named else Path.home() / ".local" / "share" / "chatkit"
    return Settings(
        home=home,
        data=data,
        offline=environment.get("CHATKIT_OFFLINE", "").lower() in ("1", "true", "yes"),
        hub=(environment.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"),
        hub_token=environment.get("HF_TOKEN") or None,
        database=environment.get("CHATKIT_DATABASE_URL") or f"sqlite:///{data}/chatkit.db",
        keys=environment.get("CHATKIT_KEYS_URL") or f"sqlite:///{data}/keys.db",
        master_key=environment.get("CHATKIT_MASTER_KEY") or None,
        redis=environment.get("CHATKIT_REDIS_URL") or None,
        encrypted=_on("CHATKIT_ENCRYPTION", environment.get("CHATKIT_ENCRYPTION") or "on"),
        answer_cache=_on("CHATKIT_ANSWER_CACHE", environment.get("CHATKIT_ANSWER_CACHE") or "on"),
        retention_days=_days("CHATKIT_RETENTION_DAYS", environment.get("CHATKIT_RETENTION_DAYS")),
        tgi_key=environment.get("CHATKIT_TGI_API_KEY") or None,
        openai_key=environment.get("CHATKIT_OPENAI_API_KEY") or None,
        auth=_auth(environment.get("CHATKIT_AUTH") or "none"),
        openid_issuer=environment.get("CHATKIT_OPENID_ISSUER") or "",
        openid_client_id=environment.get("CHATKIT_OPENID_CLIENT_ID") or "",
        openid_client_secret=environment.get("CHATKIT_OPENID_CLIENT_SECRET") or "",
        openid_domains=_domains(environment.get("CHATKIT_OPENID_DOMAINS") or ""),
        link_previews=_on(
            "CHATKIT_LINK_PREVIEWS", environment.get("CHATKIT_LINK_PREVIEWS") or "off"
        ),
        media=_origins(environment.get("CHATKIT_MEDIA_SOURCES") or ""),
    )


def _on(name: str, text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise InputError(f"{name} is {text!r}; set it to on or off.")
    return text.lower() == "on"


def _auth(text: str) -> Auth:
    for known in get_args(Auth):
        if text == known:
            found: Auth = known
            return found
    raise InputError(f"CHATKIT_AUTH is {text!r}; set it to one of {', '.join(get_args(Auth))}.")


def _domains(text: str) -> frozenset[str]:
    return frozenset(filter(None, (one.strip().lower() for one in text.split(","))))


def _origins(text: str) -> frozenset[str]:
    found = _domains(text)
    for one in found:
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?", one):
            raise InputError(
                f"CHATKIT_MEDIA_SOURCES has {one!r}; write origins as in https://example.org."
            )
    return found


def _days(name: str, text: str | None) -> float | None:
    if not text:
        return None
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days < float("inf"):
        raise InputError(f"{name} is {text!r}; give a number of days above 0, or leave it unset.")
    return days
