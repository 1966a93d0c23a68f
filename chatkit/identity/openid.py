"""Signs people in through a service that speaks OpenID Connect: Google, Keycloak, Entra, Okta …"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from chatkit.errors import InputError, NotSignedIn

if TYPE_CHECKING:
    import httpx

SCOPE = "openid email profile"
SECONDS = 15.0
# What a service may sign with; none of them can be made from what anybody may read.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_FAILED = "The sign-in did not succeed; begin again."


@dataclass(frozen=True, slots=True)
class Claims:
    """What a service says of somebody.

    Args:
        external: who they are there; the service never gives it to another.
        mail: their mail address, empty when the service has not checked it.
    """

    external: str
    mail: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that was begun; its browser keeps it until it comes back.

    Args:
        state: comes back with the browser.
        nonce: comes back in what the service signs.
        verifier: shows that who began it also ends it.
    """

    state: str
    nonce: str
    verifier: str


class OpenId:
    """One service, by the authorization code flow with PKCE.

    Source: OpenID Connect Core 1.0, section 3.1; RFC 7636; RFC 9700.

    Args:
        issuer: its address; `/.well-known/openid-configuration` is read from there.
        client_id: the name under which it knows this server.
        client_secret: what this server shows to it.
        http: asks it.
    """

    def __init__(
        self, issuer: str, client_id: str, client_secret: str, http: "httpx.AsyncClient"
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._http = http
        self._facts: dict[str, Any] = {}

    async def begin(self, back: str) -> tuple[str, Attempt]:
        """Begin a sign-in.

        Args:
            back: the address to which the service sends the browser back.

        Returns: where the browser goes, and what it has to bring back.

        Raises:
            NotSignedIn: the service does not answer.
        """
        facts = await self._discovered()
        attempt = Attempt(*(secrets.token_urlsafe(32) for _ in range(3)))
        challenge = hashlib.sha256(attempt.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": back,
            "scope": SCOPE,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{facts['authorization_endpoint']}?{urlencode(asked)}", attempt

    async def finish(self, attempt: Attempt, state: str, code: str, back: str) -> Claims:
        """Find out who has come back.

        Raises:
            NotSignedIn: they bring what was not asked for, or the service does not vouch for them.
        """
        if not secrets.compare_digest(attempt.state.encode(), state.encode()):
            raise NotSignedIn(_FAILED)
        facts = await self._discovered()
        shown = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": attempt.verifier,
        }
        answer = await self._ask(
            "POST", facts["token_endpoint"], data=shown, auth=(self._client_id, self._client_secret)
        )
        keys = await self._ask("GET", facts["jwks_uri"])
        return self._claims(str(answer.get("id_token", "")), keys, attempt.nonce)

    def _claims(self, id_token: str, keys: dict[str, Any], nonce: str) -> Claims:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        rules = jwt.JWTClaimsRegistry(
            leeway=60,
            iss={"essential": True, "value": self._facts["issuer"]},
            aud={"essential": True, "value": self._client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            read = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            rules.validate(read.claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise NotSignedIn(_FAILED) from error
        said = read.claims
        mail = said.get("email") if said.get("email_verified") is True else ""
        return Claims(f"{said['iss']} {said['sub']}", str(mail or ""))

    async def _discovered(self) -> dict[str, Any]:
        if not self._facts:
            facts = await self._ask("GET", f"{self._issuer}/.well-known/openid-configuration")
            if str(facts.get("issuer", "")).rstrip("/") != self._issuer:
                raise NotSignedIn(
                    f"{self._issuer} calls itself {facts.get('issuer')!r}; correct "
                    "CHATKIT_OPENID_ISSUER."
                )
            self._facts = facts
        return self._facts

    async def _ask(self, method: str, url: str, **sent: Any) -> dict[str, Any]:
        import httpx

        try:
            answer = await self._http.request(method, url, timeout=SECONDS, **sent)
            answer.raise_for_status()
            said = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise NotSignedIn(
                "The service that signs people in does not answer as it should; try again, and "
                f"if it stays so tell an admin ({type(error).__name__})."
            ) from error
        if not isinstance(said, dict):
            raise NotSignedIn(_FAILED)
        return said


def checked_issuer(issuer: str) -> str:
    """Give the address of a service that may vouch for people.

    Raises:
        InputError: who reads the network between could vouch for anybody.
    """
    here = ("http://127.0.0.1", "http://localhost", "http://[::1]")
    if not issuer.startswith(("https://", *here)):
        raise InputError(
            f"CHATKIT_OPENID_ISSUER is {issuer!r}; it has to begin with https://, or be on this "
            "machine."
        )
    return issuer
