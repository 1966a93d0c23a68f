"""The metrics of TGI's router, under its own names."""

import re
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from chatkit.engine import Usage

# TGI counts without the suffix that the Prometheus client puts behind every counter.
_SUFFIX = re.compile(r"^((?:# (?:HELP|TYPE) )?tgi_\w+?)_total(?=[ {])", re.MULTILINE)
_CREATED = re.compile(r"^(?:# (?:HELP|TYPE) )?tgi_\w+_created[ {].*\n", re.MULTILINE)
SECONDS = tuple(0.0001 * 1.5**step for step in range(1, 36))


class Metrics:
    """Counts requests of one server.

    Args:
        longest: the most tokens that a request can have, for the scale of token counts.
    """

    def __init__(self, longest: int) -> None:
        self.registry = CollectorRegistry()
        tokens = tuple(longest * step / 100 for step in range(1, 101))
        self._asked = self._counter("tgi_request_count", "Requests.")
        self._answered = self._counter("tgi_request_success", "Requests that were answered.")
        self._failed = self._counter("tgi_request_failure", "Requests that were not.", ["err"])
        self._waiting = Gauge("tgi_queue_size", "Requests that wait.", registry=self.registry)
        self._running = Gauge(
            "tgi_batch_current_size", "Requests that are worked on.", registry=self.registry
        )
        self._seconds = {
            name: self._histogram(f"tgi_request_{name}", f"Seconds: {said}.", SECONDS)
            for name, said in {
                "duration": "the whole request",
                "validation_duration": "until it was known to be valid",
                "queue_duration": "in the queue",
                "inference_duration": "reading and writing",
                "mean_time_per_token_duration": "for each token",
            }.items()
        }
        self._tokens = {
            name: self._histogram(f"tgi_request_{name}", f"Tokens: {said}.", tokens)
            for name, said in {
                "input_length": "of the prompt",
                "generated_tokens": "of the answer",
                "max_new_tokens": "that the answer might have had",
            }.items()
        }

    def asked(self) -> None:
        """Count a request."""
        self._asked.inc()

    def failed(self, kind: str) -> None:
        """Count a request that was not answered.

        Args:
            kind: validation, overloaded, generation, incomplete, dropped or template.
        """
        self._failed.labels(kind).inc()

    def answered(self, usage: Usage, times: "Times", longest: int) -> None:
        """Count an answer.

        Args:
            usage: what it took.
            times: the seconds of each part.
            longest: the tokens that it might have had.
        """
        self._answered.inc()
        for name, seconds in times.by_name(usage.completion_tokens).items():
            self._seconds[name].observe(seconds)
        self._tokens["input_length"].observe(usage.prompt_tokens)
        self._tokens["generated_tokens"].observe(usage.completion_tokens)
        self._tokens["max_new_tokens"].observe(longest)

    def text(self, waiting: int, running: int) -> str:
        """Give everything in Prometheus's text format.

        Args:
            waiting: requests in the engine's queue.
            running: requests that are worked on.
        """
        self._waiting.set(waiting)
        self._running.set(running)
        text = generate_latest(self.registry).decode()
        return _SUFFIX.sub(r"\1", _CREATED.sub("", text))

    def _counter(self, name: str, said: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, said, labels, registry=self.registry)

    def _histogram(self, name: str, said: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, said, buckets=buckets, registry=self.registry)


class Times:
    """The seconds of a request's parts.

    Args:
        validation: until it was known to be valid.
        queue: in the queue.
        total: the whole.
    """

    def __init__(self, validation: float, queue: float, total: float) -> None:
        self.validation = validation
        self.queue = queue
        self.total = total

    @property
    def inference(self) -> float:
        """The seconds of reading and writing."""
        return max(0.0, self.total - self.validation - self.queue)

    def per_token(self, tokens: int) -> float:
        """The mean seconds for each token."""
        return self.inference / max(1, tokens)

    def by_name(self, tokens: int) -> dict[str, float]:
        """The parts under TGI's names."""
        return {
            "duration": self.total,
            "validation_duration": self.validation,
            "queue_duration": self.queue,
            "inference_duration": self.inference,
            "mean_time_per_token_duration": self.per_token(tokens),
        }
