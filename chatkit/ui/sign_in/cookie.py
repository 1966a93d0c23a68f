"""What a browser keeps while somebody is signed in, and while they sign in elsewhere."""

from dataclasses import asdict

from tornado.escape import json_decode, json_encode
from tornado.web import RequestHandler

from chatkit.identity.openid import Attempt
from chatkit.identity.sessions import LONGEST_SECONDS

SESSION = "chatkit_session"
_ATTEMPT = "chatkit_attempt"
_DAYS = LONGEST_SECONDS / 86_400


def keep_session(handler: RequestHandler, token: str) -> None:
    """Let the browser keep a session; no script and no other site can use it."""
    handler.set_cookie(
        SESSION,
        token,
        expires_days=_DAYS,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=handler.request.protocol == "https",
    )


def session_of(handler: RequestHandler) -> str:
    """Give what the browser keeps, empty without a session."""
    return handler.get_cookie(SESSION) or ""


def drop_session(handler: RequestHandler) -> None:
    """Let the browser forget its session."""
    handler.clear_cookie(SESSION, path="/")


def keep_attempt(handler: RequestHandler, attempt: Attempt, to: str) -> None:
    """Let the browser keep a sign-in elsewhere that was begun, signed by this server."""
    handler.set_secure_cookie(
        _ATTEMPT,
        json_encode({**asdict(attempt), "to": to}),
        expires_days=None,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=handler.request.protocol == "https",
    )


def take_attempt(handler: RequestHandler) -> tuple[Attempt, str] | None:
    """Give the sign-in elsewhere that was begun in this browser, once; None without one."""
    kept = handler.get_secure_cookie(_ATTEMPT, max_age_days=1)
    handler.clear_cookie(_ATTEMPT, path="/")
    if kept is None:
        return None
    said = json_decode(kept)
    return Attempt(said["state"], said["nonce"], said["verifier"]), said["to"]
