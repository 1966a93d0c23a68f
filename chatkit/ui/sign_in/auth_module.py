"""The door as Bokeh's server is given it: `--auth-module` names this file."""

from chatkit.ui.sign_in.door import guard
from chatkit.ui.sign_in.handlers import LoginHandler, LogoutHandler, user_of

__all__ = ["LoginHandler", "LogoutHandler", "get_user_async", "login_url", "logout_url"]

login_url = "/login"
logout_url = "/logout"
get_user_async = user_of
guard()
