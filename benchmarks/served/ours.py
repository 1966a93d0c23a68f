"""The app as `serve/app.py` has it, with the engine of the benchmark."""

from benchmarks.served.dripping import open_dripping
from chatkit import models
from chatkit.ui.chat_page import chat_page

models.open_engine = open_dripping

chat_page().servable()
