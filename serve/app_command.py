"""`python -m serve app`: the chat app, with sign-in when that is wanted."""

import hashlib
import hmac
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from chatkit.errors import InputError

if TYPE_CHECKING:
    from chatkit.settings import Settings

# Who comes back from a flight finds the page as it was: a closed lid is no reason to sign in again.
UNUSED_SESSION_SECONDS = 300
TOKEN_SECONDS = 7 * 86_400
HERE = ("127.0.0.1", "localhost", "::1")


def app_command(
    auth: Annotated[
        str, typer.Option(help="none, password or oauth.", envvar="CHATKIT_AUTH")
    ] = "none",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 5006,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="HOST[:PORT] under which browsers come; may be repeated."),
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy",
            help="Believe X-Forwarded-For and -Proto.",
            envvar="CHATKIT_BEHIND_PROXY",
        ),
    ] = False,
    certificate: Annotated[Path | None, typer.Option(help="A PEM file, for HTTPS.")] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's key.")] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Answer /metrics, to anybody who can reach the port.")
    ] = False,
) -> None:
    """Serve the chat app.

    With `--auth password` only people with an account come in; `python -m chatkit users add`
    makes one. With `--auth oauth` a service that speaks OpenID Connect vouches for them:
    CHATKIT_OPENID_ISSUER, CHATKIT_OPENID_CLIENT_ID and CHATKIT_OPENID_CLIENT_SECRET name it, and
    CHATKIT_OPENID_DOMAINS whose people need no account beforehand. It sends browsers back to
    /login/return.

    Examples:

      python -m serve app

      python -m chatkit users add anna --role admin && python -m serve app --auth password

      python -m serve app --auth password --host 0.0.0.0 --origin chat.example.org --behind-proxy
    """
    os.environ["CHATKIT_AUTH"] = auth
    from chatkit.settings import settings

    if (certificate is None) != (key is None):
        raise InputError("HTTPS needs both: --certificate and --key.")
    now = settings()
    arguments = ["--address", host, "--port", str(port)]
    if now.auth != "none":
        _check(now)
        arguments += _door(now)
    for one in origin or _origins(host, port):
        arguments += ["--allow-websocket-origin", one]
    if behind_proxy:
        arguments += ["--use-xheaders"]
    if certificate and key:
        arguments += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    if metrics:
        arguments += ["--plugins", "chatkit.ui.metrics"]
    _serve(arguments)


def _check(now: "Settings") -> None:
    """Check that somebody could sign in.

    Raises:
        InputError: nobody could; the sentence says what is missing.
    """
    from chatkit.background import wait_for
    from chatkit.cli.opening import opened_shelf
    from chatkit.identity.openid import checked_issuer

    if now.auth == "oauth":
        for name, value in (
            ("CHATKIT_OPENID_ISSUER", now.openid_issuer),
            ("CHATKIT_OPENID_CLIENT_ID", now.openid_client_id),
            ("CHATKIT_OPENID_CLIENT_SECRET", now.openid_client_secret),
        ):
            if not value:
                raise InputError(f"{name} is not set; --auth oauth needs it.")
        checked_issuer(now.openid_issuer)
        return
    with opened_shelf() as shelf:
        if not wait_for(shelf.identity.has_accounts()):
            raise InputError(
                "Nobody could sign in: there is no account yet; make one with "
                "`python -m chatkit users add NAME --role admin`."
            )


def _door(now: "Settings") -> list[str]:
    """Give what puts the door before the app, and sign what browsers and sessions are given."""
    from chatkit.store.master_key import MasterKey
    from chatkit.ui import sign_in

    master = MasterKey(now.master_key, now.data / "master.key").key

    def secret(purpose: bytes) -> str:
        return hmac.new(master, purpose, hashlib.sha256).hexdigest()

    os.environ["PANEL_COOKIE_SECRET"] = secret(b"cookies of the app")
    os.environ["BOKEH_SECRET_KEY"] = secret(b"sessions of the app")
    module = Path(sign_in.__file__).with_name("auth_module.py")
    return [
        *("--auth-module", str(module)),
        *("--session-ids", "signed"),
        *("--plugins", "chatkit.ui.sign_in.routes"),
    ]


def _origins(host: str, port: int) -> list[str]:
    names = HERE[:2] if host in HERE else (host,)
    return [f"{name}:{port}" for name in names]


def _serve(arguments: list[str]) -> NoReturn:
    """Become Panel's server, so that signals and the exit code are its own."""
    page = Path(__file__).with_name("app.py")
    command = [
        *(sys.executable, "-m", "panel", "serve"),
        str(page),
        *("--index", "app"),
        *("--unused-session-lifetime", str(1000 * UNUSED_SESSION_SECONDS)),
        *("--session-token-expiration", str(TOKEN_SECONDS)),
        *arguments,
    ]
    sys.stdout.flush()
    os.execv(sys.executable, command)
