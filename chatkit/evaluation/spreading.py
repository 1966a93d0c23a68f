"""Spreads the samples of a run over a Ray cluster (extra `ray`); the numbers stay the same.

Source: Ray's asynchronous actors, https://docs.ray.io.
"""

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from chatkit.errors import EngineError, InputError
from chatkit.evaluation.answering import Asked, EngineAnswering
from chatkit.evaluation.record import Answer
from chatkit.evaluation.suite import Questions, Sample

LOCAL = "local"
_SETTINGS = ("CHATKIT_HOME", "HF_HUB_OFFLINE")


class RemoteAnswering:
    """Answers samples with the engines of several workers, each in turn.

    Args:
        workers: Ray actors.
        asked: who is asked.
    """

    def __init__(self, workers: list[Any], asked: Asked) -> None:
        self.asked = asked
        self._next = cycle(workers)

    async def answer(self, sample: Sample, turn: int) -> Answer:
        """Ask one sample somewhere; see `Answering`."""
        from ray.exceptions import RayActorError, RayTaskError

        try:
            answer: Answer = await next(self._next).answer.remote(sample, turn)
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            raise EngineError(
                f"A worker of the Ray cluster died ({error}); run the same command to go on."
            ) from None
        return answer


class _Worker:
    """What runs elsewhere: one engine, and the samples that are sent to it."""

    def __init__(self, questions: Questions, model: str) -> None:
        from chatkit.engines.opening import MANY, open_engine

        self._answering = EngineAnswering(questions, open_engine(model, MANY))

    def asked(self) -> Asked:
        return self._answering.asked

    async def answer(self, sample: Sample, turn: int) -> Answer:
        return await self._answering.answer(sample, turn)


@asynccontextmanager
async def spread(
    questions: Questions, model: str, address: str, workers: int, streams: int
) -> AsyncIterator[RemoteAnswering]:
    """Open a model on several workers of a Ray cluster; they end with this block.

    Args:
        questions: what will be asked.
        model: its name; its files must be on every machine of the cluster.
        address: of the cluster; `local` begins one on this machine.
        workers: how many engines.
        streams: samples at once on each.

    Raises:
        InputError: the cluster does not answer.
        ChatkitError: the model cannot be opened there.
    """
    import ray
    from ray.exceptions import RayTaskError

    begun = not ray.is_initialized()
    _join(address, workers)
    # Ray's own types know neither what it tells nor a class whose constructor takes arguments.
    untyped: Any = ray
    gpus = min(1.0, untyped.cluster_resources().get("GPU", 0) / workers)
    options = {"max_concurrency": streams, "num_cpus": 1, "num_gpus": gpus}
    actor = untyped.remote(_Worker).options(**options)
    actors: list[Any] = []
    try:
        actors += [actor.remote(questions, model) for _ in range(workers)]
        try:
            told = [await one.asked.remote() for one in actors]
        except RayTaskError as error:
            raise error.cause from None
        if len(set(told)) > 1:
            raise InputError(f"The machines of the cluster have different models ({told}).")
        yield RemoteAnswering(actors, told[0])
    finally:
        for one in actors:
            ray.kill(one)
        if begun:
            ray.shutdown()


def _join(address: str, workers: int) -> None:
    import ray

    _check_reached(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environment = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    where: dict[str, Any] = {"address": address}
    if address == LOCAL:
        where = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(
            **where,
            runtime_env={"env_vars": environment},
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreached(address, error) from None


def _check_reached(address: str) -> None:
    """Look whether somebody listens; Ray itself would wait long and then end the process."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port is not None and parts.hostname:
        try:
            socket.create_connection((parts.hostname, parts.port), 5).close()
        except OSError as error:
            raise _unreached(address, error) from None


def _unreached(address: str, error: Exception) -> InputError:
    return InputError(
        f"The Ray cluster {address} does not answer ({error}); start one with `ray start --head`, "
        "or say --ray local."
    )
