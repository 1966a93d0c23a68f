"""The app as `serve/app.py` has it, with an engine that writes the time."""

from benchmarks.served.stamped import open_stamped
from chatkit import models
from chatkit.ui.chat_page import chat_page

models.open_engine = open_stamped

chat_page().servable()
