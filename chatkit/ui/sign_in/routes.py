"""The pages of the door that Bokeh knows nothing of: `--plugins` names this module."""

from tornado.web import RequestHandler

from chatkit.ui.admin.handler import AdminHandler
from chatkit.ui.sign_in.handlers import AccountHandler, ReturnHandler

ROUTES: list[tuple[str, type[RequestHandler]]] = [
    ("/login/return", ReturnHandler),
    ("/account", AccountHandler),
    ("/admin", AdminHandler),
]
