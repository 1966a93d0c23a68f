"""The chat service as the benchmarks open it: real databases, and an engine that plays a script."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from chatkit.chat import ChatService
from chatkit.engines.scripted import ScriptedEngine
from chatkit.service import open_chat_service
from chatkit.settings import Settings, settings

# The tests know how to start PostgreSQL, Redis and llama.cpp's own server.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

from llamacpp_server import llamacpp_server
from scripted_service import SCRIPTED, ScriptedModels
from services import Postgres, Redis

__all__ = ["SCRIPTED", "Postgres", "Redis", "llamacpp_server", "on_sqlite", "opened", "percentile"]


def on_sqlite(folder: Path) -> Settings:
    """Name SQLite files in a folder, whatever the environment says."""
    return replace(
        settings(),
        data=folder,
        database=f"sqlite:///{folder}/chatkit.db",
        keys=f"sqlite:///{folder}/keys.db",
        redis=None,
        encrypted=True,
        retention_days=None,
    )


@asynccontextmanager
async def opened(
    where: Settings, engine: ScriptedEngine | None = None
) -> AsyncIterator[ChatService]:
    """Open the service without titles, and close it."""
    service = await open_chat_service(
        where, ScriptedModels(engine or ScriptedEngine()), titles=False
    )
    try:
        yield service
    finally:
        await service.close()


def percentile(values: list[float], share: float) -> float:
    """Give the value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
