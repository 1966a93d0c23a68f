"""`/metrics` for Prometheus on the app's own port.

Give this module to the server: `panel serve serve/app.py --plugins chatkit.ui.metrics`.
"""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import RequestHandler

from chatkit.telemetry import set_up_metrics


class MetricsHandler(RequestHandler):
    """Answers what has been counted so far."""

    def get(self) -> None:
        """Give all metrics of this process as text."""
        set_up_metrics()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.write(generate_latest())


ROUTES: list[tuple[str, type[RequestHandler]]] = [("/metrics", MetricsHandler)]
