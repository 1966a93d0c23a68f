"""What chatkit tells about its work: logs, metrics and request ids; silent until set up.

Message text is never logged and is never a label.
"""

import contextvars
import logging
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SERVER_GAUGES = {
    "running_requests": "Requests that a server of a pool has.",
    "outstanding_tokens": "Tokens that they may hold, prompts and answers.",
    "up": "Whether its health checks say that it can work.",
    "breaker_state": "0 closed, 1 half-open, 2 open.",
}
BREAKER_STATES = ("closed", "half-open", "open")

_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


@contextmanager
def request(id: str | None = None) -> Iterator[str]:
    """Name what happens inside, from the page to the engine, with one request id.

    An error that leaves it is counted and logged by its type.

    Args:
        id: an id that came from outside; a new one when None.
    """
    before = _request_id.get()
    _request_id.set(id or secrets.token_hex(8))
    try:
        yield _request_id.get()
    except Exception as error:
        failed(error)
        raise
    finally:
        # Not `reset`: an asynchronous generator may be closed from another task.
        _request_id.set(before)


def request_id() -> str:
    """Give the current request's id, empty outside of one."""
    return _request_id.get()


class Sink(Protocol):
    """Where events and figures go."""

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """Take one event."""

    def answer(self, model: str, finish: str, figures: "Figures") -> None:
        """Take the figures of one answer."""

    def error(self, kind: str) -> None:
        """Take the type of one error."""

    def queue(self, model: str, waiting: int) -> None:
        """Take the number of requests that wait for a model."""

    def models(self, count: int) -> None:
        """Take the number of loaded models."""

    def stage(self, name: str, seconds: float) -> None:
        """Take how long one stage of a message's path took."""

    def action(self, model: str, action: str) -> None:
        """Take what a person did with a model's answer."""

    def cache(self, name: str, outcome: str) -> None:
        """Take whether a cache had what it was asked for."""

    def server(self, pool: str, name: str, figures: "ServerFigures | None") -> None:
        """Take how a server of a pool stands; None when it has left."""

    def server_request(self, pool: str, name: str, outcome: str) -> None:
        """Take what became of a request on a server of a pool."""


class Figures(NamedTuple):
    """What one answer took: seconds, tokens per second, and token counts."""

    queued_seconds: float
    first_token_seconds: float
    tokens_per_second: float
    prompt_tokens: int
    completion_tokens: int


class ServerFigures(NamedTuple):
    """How a server of a pool stands.

    Args:
        running: how many requests it has.
        tokens: how many tokens they may hold, prompts and answers.
        well: whether its health checks say that it can work.
        breaker: closed, half-open or open.
    """

    running: int
    tokens: int
    well: bool
    breaker: str


_sinks: list[Sink] = []


def set_up_logging(level: int = logging.INFO) -> None:
    """Write one JSON line per event to stderr."""
    if not _has(LogSink):
        _sinks.append(LogSink(level))


def set_up_metrics(registry: "CollectorRegistry | None" = None) -> None:
    """Count into Prometheus metrics.

    Args:
        registry: where they are registered; None is the process's own registry.
    """
    if not _has(MetricsSink):
        _sinks.append(MetricsSink(registry))


def event(name: str, **fields: object) -> None:
    """Tell that something happened, in words and numbers but never in message text."""
    for sink in _sinks:
        sink.event(name, {"request": request_id(), **fields})


def answer_finished(model: str, finish: str, figures: Figures) -> None:
    """Tell that an answer ended well."""
    for sink in _sinks:
        sink.answer(model, finish, figures)
    event("answer finished", model=model, finish=finish, **figures._asdict())


def failed(error: Exception) -> None:
    """Tell that a request failed, by the type of the error."""
    kind = type(error).__name__
    for sink in _sinks:
        sink.error(kind)
    event("request failed", error=kind)


def queue_length(model: str, waiting: int) -> None:
    """Tell how many requests wait for a model."""
    for sink in _sinks:
        sink.queue(model, waiting)


def stage_finished(name: str, seconds: float) -> None:
    """Tell how long one stage of a message's path took."""
    for sink in _sinks:
        sink.stage(name, seconds)


def acted(model: str, action: str) -> None:
    """Tell what a person did: send, regenerate, edit, stop, thumb up, thumb down, vote."""
    for sink in _sinks:
        sink.action(model, action)
    event("acted", model=model, action=action)


def cache_asked(name: str, outcome: str) -> None:
    """Tell whether a cache had what it was asked for: hit or miss."""
    for sink in _sinks:
        sink.cache(name, outcome)


def server_stands(pool: str, name: str, figures: ServerFigures) -> None:
    """Tell how a server of a pool stands."""
    for sink in _sinks:
        sink.server(pool, name, figures)


def server_left(pool: str, name: str) -> None:
    """Tell that a server has left its pool."""
    for sink in _sinks:
        sink.server(pool, name, None)
    event("server left", pool=pool, server=name)


def server_asked(pool: str, name: str, outcome: str) -> None:
    """Tell what became of a request on a server of a pool.

    Args:
        pool: the pool's name.
        name: the server's.
        outcome: answered; retried, when it failed before the first token; failed, when it did so
            afterwards; refused, when the request was not for it; or stopped, by whoever asked.
    """
    for sink in _sinks:
        sink.server_request(pool, name, outcome)
    if outcome in ("retried", "failed"):
        event("server failed", pool=pool, server=name, outcome=outcome)


def models_loaded(count: int) -> None:
    """Tell how many models are loaded."""
    for sink in _sinks:
        sink.models(count)


class LogSink:
    """Writes events through structlog, as JSON lines on stderr."""

    def __init__(self, level: int) -> None:
        import structlog

        self._log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.add_log_level,
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(level),
        )

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """Write one line."""
        self._log.info(name, **fields)

    def answer(self, model: str, finish: str, figures: Figures) -> None:
        """Nothing: the event of the same answer says it."""

    def error(self, kind: str) -> None:
        """Nothing: the event of the same error says it."""

    def queue(self, model: str, waiting: int) -> None:
        """Nothing: a queue's length is a figure, not an event."""

    def models(self, count: int) -> None:
        """Write one line."""
        self.event("models loaded", {"count": count})

    def stage(self, name: str, seconds: float) -> None:
        """Nothing: the event at the answer's end names all stages."""

    def action(self, model: str, action: str) -> None:
        """Nothing: the event of the same action says it."""

    def cache(self, name: str, outcome: str) -> None:
        """Nothing: a rate is a figure, not an event."""

    def server(self, pool: str, name: str, figures: ServerFigures | None) -> None:
        """Nothing: what changes with every request is a figure, not an event."""

    def server_request(self, pool: str, name: str, outcome: str) -> None:
        """Nothing: the event of a failed request says it."""


class MetricsSink:
    """Counts into Prometheus metrics."""

    def __init__(self, registry: "CollectorRegistry | None") -> None:
        from prometheus_client import REGISTRY, Counter, Gauge, Histogram

        registry = registry or REGISTRY
        self._first_token = Histogram(
            "chatkit_first_token_seconds",
            "From asking to the first text.",
            ["model"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self._speed = Histogram(
            "chatkit_tokens_per_second",
            "The speed of writing.",
            ["model"],
            buckets=(1, 5, 10, 20, 40, 80, 160, 320),
            registry=registry,
        )
        self._tokens = Counter(
            "chatkit_tokens", "Tokens read and written.", ["model", "kind"], registry=registry
        )
        self._answers = Counter(
            "chatkit_answers", "Answers by how they ended.", ["model", "finish"], registry=registry
        )
        self._errors = Counter(
            "chatkit_errors", "Errors by their type.", ["kind"], registry=registry
        )
        self._queue = Gauge(
            "chatkit_queue_requests", "Requests that wait.", ["model"], registry=registry
        )
        self._models = Gauge("chatkit_loaded_models", "Loaded models.", registry=registry)
        self._stages = Histogram(
            "chatkit_stage_seconds",
            "What each stage of a message's path took.",
            ["stage"],
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self._actions = Counter(
            "chatkit_actions",
            "What people did with a model's answers.",
            ["model", "action"],
            registry=registry,
        )
        self._caches = Counter(
            "chatkit_cache_requests",
            "What caches were asked.",
            ["cache", "outcome"],
            registry=registry,
        )
        self._servers = {
            name: Gauge(f"chatkit_server_{name}", text, ["pool", "server"], registry=registry)
            for name, text in SERVER_GAUGES.items()
        }
        self._server_requests = Counter(
            "chatkit_server_requests",
            "Requests to the servers of pools, by what became of them.",
            ["pool", "server", "outcome"],
            registry=registry,
        )

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """Nothing: events are for the log."""

    def answer(self, model: str, finish: str, figures: Figures) -> None:
        """Count one answer."""
        self._first_token.labels(model).observe(figures.first_token_seconds)
        if figures.completion_tokens > 1:
            self._speed.labels(model).observe(figures.tokens_per_second)
        self._tokens.labels(model, "prompt").inc(figures.prompt_tokens)
        self._tokens.labels(model, "completion").inc(figures.completion_tokens)
        self._answers.labels(model, finish).inc()

    def error(self, kind: str) -> None:
        """Count one error."""
        self._errors.labels(kind).inc()

    def queue(self, model: str, waiting: int) -> None:
        """Set the queue's length."""
        self._queue.labels(model).set(waiting)

    def models(self, count: int) -> None:
        """Set the number of models."""
        self._models.set(count)

    def stage(self, name: str, seconds: float) -> None:
        """Count one stage."""
        self._stages.labels(name).observe(seconds)

    def action(self, model: str, action: str) -> None:
        """Count one action."""
        self._actions.labels(model, action).inc()

    def cache(self, name: str, outcome: str) -> None:
        """Count one question to a cache."""
        self._caches.labels(name, outcome).inc()

    def server(self, pool: str, name: str, figures: ServerFigures | None) -> None:
        """Set how a server stands, or forget it."""
        if figures is None:
            for gauge in self._servers.values():
                with suppress(KeyError):
                    gauge.remove(pool, name)
            return
        self._servers["running_requests"].labels(pool, name).set(figures.running)
        self._servers["outstanding_tokens"].labels(pool, name).set(figures.tokens)
        self._servers["up"].labels(pool, name).set(figures.well)
        state = BREAKER_STATES.index(figures.breaker)
        self._servers["breaker_state"].labels(pool, name).set(state)

    def server_request(self, pool: str, name: str, outcome: str) -> None:
        """Count one request."""
        self._server_requests.labels(pool, name, outcome).inc()


def _has(kind: type) -> bool:
    return any(type(sink) is kind for sink in _sinks)
