"""The app as `serve/app.py` has it, to which web servers of this machine are public."""

from chatkit.ui import previews
from chatkit.ui.chat_page import chat_page
from chatkit.ui.public_web import GuardedNetwork, PublicWeb

previews.PublicWeb = lambda: PublicWeb(GuardedNetwork(lambda _: True), any_port=True)

chat_page().servable()
