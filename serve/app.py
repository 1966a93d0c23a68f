"""The chat app; start it with `panel serve serve/app.py --plugins chatkit.ui.metrics`.

This page runs once for every visitor. What visitors share, the models above all, lives in
imported modules, which run once for all. Everybody who opens it is a guest; with
`python -m serve app --auth password` people sign in.
"""

from chatkit.telemetry import set_up_logging, set_up_metrics
from chatkit.ui.chat_page import chat_page

set_up_logging()
set_up_metrics()

chat_page().servable()
