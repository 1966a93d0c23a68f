"""The app as `serve/app.py` has it, with a scripted engine that is slow when a question says so."""

from paced_engine import open_paced

from chatkit import models
from chatkit.telemetry import set_up_logging, set_up_metrics
from chatkit.ui.chat_page import chat_page

models.open_engine = open_paced
set_up_logging()
set_up_metrics()

chat_page().servable()
