"""The pages of the door as HTML: small, without scripts, and asking nobody for anything."""

from html import escape
from importlib.resources import files

from tornado.web import RequestHandler

_STYLE = files("chatkit.ui.sign_in").joinpath("door.css").read_text("utf-8")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def write_page(
    handler: RequestHandler, title: str, body: str, said: str = "", *, wide: bool = False
) -> None:
    """Write a page.

    Args:
        handler: answers with it.
        title: what it is.
        body: HTML.
        said: a sentence that stands above, empty for none.
        wide: whether it needs more room than a form.
    """
    for name, value in HEADERS.items():
        handler.set_header(name, value)
    alert = f"<p role='alert' class='said'>{escape(said)}</p>" if said else ""
    kind = " class='wide'" if wide else ""
    handler.finish(
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)} · chatkit</title><style>{_STYLE}</style>"
        f"<main{kind}><h1>{escape(title)}</h1>{alert}{body}</main></html>"
    )


def password_form(name: str, to: str) -> str:
    """Write the form that asks for name and password."""
    return (
        "<form method='post'>"
        "<label>Name<input name='name' required autofocus autocomplete='username' "
        f"autocapitalize='none' spellcheck='false' value='{escape(name)}'></label>"
        "<label>Password<input name='password' type='password' required "
        "autocomplete='current-password'></label>"
        f"<input type='hidden' name='next' value='{escape(to)}'>"
        "<button>Sign in</button></form>"
    )


def elsewhere_form(service: str, to: str) -> str:
    """Write the form that leads to another service."""
    return (
        "<form method='post'>"
        f"<input type='hidden' name='next' value='{escape(to)}'>"
        f"<button autofocus>Sign in with {escape(service)}</button></form>"
    )
