"""A service that speaks OpenID Connect on 127.0.0.1, and lies when a test says so."""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import uvicorn
from browser import free_port, wait_until
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

CLIENT, SECRET = "chatkit", "a secret of the client"


@dataclass
class OpenIdService:
    """The service; what it says of the next person who comes is in `person`.

    Args:
        issuer: its address.
        person: claims about whoever comes next.
        lies: claims and headers that it gets wrong.
        key: signs; what it publishes stays the same when a test changes this.
    """

    issuer: str
    person: dict[str, Any]
    lies: dict[str, Any] = field(default_factory=dict)
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    asked: dict[str, dict[str, str]] = field(default_factory=dict)

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.person,
            **self.lies,
        }
        header = {"alg": "HS256" if isinstance(self.key, OctKey) else "RS256", "kid": "one"}
        return jwt.encode(header, claims, self.key)


def _app(service: OpenIdService) -> FastAPI:
    app = FastAPI()
    published = KeySet([service.key]).as_dict(private=False)

    @app.get("/.well-known/openid-configuration")
    def facts() -> dict[str, str]:
        return {
            "issuer": service.issuer,
            "authorization_endpoint": f"{service.issuer}/authorize",
            "token_endpoint": f"{service.issuer}/token",
            "jwks_uri": f"{service.issuer}/keys",
        }

    @app.get("/authorize")
    def authorize(request: Request) -> RedirectResponse:
        asked = dict(request.query_params)
        code = secrets.token_hex(8)
        service.asked[code] = asked
        state = service.lies.get("state", asked["state"])
        back = {"error": "access_denied"} if "error" in service.lies else {"code": code}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({**back, 'state': state})}")

    @app.post("/token")
    async def token(request: Request) -> JSONResponse:
        sent = dict(parse_qsl((await request.body()).decode()))
        asked = service.asked.pop(sent.get("code", ""), None)
        shown = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        fits = (
            asked is not None
            and request.headers.get("authorization") == f"Basic {shown}"
            and asked["code_challenge"] == challenge
            and asked["redirect_uri"] == sent.get("redirect_uri")
        )
        if not fits or asked is None:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return JSONResponse(
            {
                "access_token": "x",
                "token_type": "Bearer",
                "id_token": service.id_token(asked["nonce"]),
            }
        )

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return dict(published)

    return app


@contextmanager
def running_openid_service(**person: Any) -> Iterator[OpenIdService]:
    """Run the service for as long as the block runs."""
    port = free_port()
    service = OpenIdService(f"http://127.0.0.1:{port}", person)
    server = uvicorn.Server(uvicorn.Config(_app(service), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the service answers")
        yield service
    finally:
        server.should_exit = True
        thread.join(10)
