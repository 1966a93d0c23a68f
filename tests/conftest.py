"""What all tests share: a home of their own, and the default model, pulled once."""

import asyncio
import gc
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
from services import postgres, postgres_url, redis_server, redis_url

from chatkit.background import wait_for
from chatkit.catalogue import find
from chatkit.engines.llamacpp import LlamaCppEngine
from chatkit.engines.opening import open_engine
from chatkit.engines.transformers import TransformersEngine
from chatkit.loading.pull import pull
from chatkit.settings import settings

# PEFT and transformers must not look for names on the hub; they read this when first imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# A graphics card would make answers differ; the tests that need one ask for it by themselves.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

__all__ = ["postgres", "postgres_url", "redis_server", "redis_url"]

# Read before any test sets another: the default model is pulled once, and stays.
MACHINE_HOME = settings().home

Opened = TypeVar("Opened", LlamaCppEngine, TransformersEngine)


# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("chatkit", deadline=None)
hypothesis.settings.load_profile("chatkit")


MARKS_OF_A_FILE = re.compile(r"^pytestmark = (\[\n.*?^\]|[^\n]*)", re.MULTILINE | re.DOTALL)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file whose every test is left out (`-m "not model"`)."""
    left_out = re.findall(r"\bnot (\w+)", config.option.markexpr)
    if collection_path.suffix != ".py" or not left_out:
        return None
    marks = " ".join(MARKS_OF_A_FILE.findall(collection_path.read_text("utf-8")))
    return any(re.search(rf"\bmark\.{name}\b", marks) for name in left_out) or None


def pytest_collection_finish() -> None:
    """Keep what was imported out of the sight of the garbage collector, a twelfth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A fresh, empty CHATKIT_HOME for each test; what was opened there is closed after it."""
    home = tmp_path / "home"
    monkeypatch.setenv("CHATKIT_HOME", str(home))
    yield home
    if "chatkit.service" in sys.modules:
        wait_for(sys.modules["chatkit.service"].close_shared_services())


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def default_model_home() -> Path:
    """The CHATKIT_HOME of the machine, with the default model pulled for both engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(MACHINE_HOME))
        pull(find("smollm2-135m"), engine="transformers")
        pull(find("smollm2-135m-q4"))
    return MACHINE_HOME


@pytest.fixture
def model_home(default_model_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use the home with the pulled default model in this test."""
    monkeypatch.setenv("CHATKIT_HOME", str(default_model_home))
    return default_model_home


@pytest.fixture(scope="session")
def llamacpp(default_model_home: Path) -> Iterator[LlamaCppEngine]:
    """The default model on the embedded engine."""
    yield from _opened("smollm2-135m", default_model_home, LlamaCppEngine)


@pytest.fixture(scope="session")
def llamacpp_q4(default_model_home: Path) -> Iterator[LlamaCppEngine]:
    """The quantised default model on the embedded engine."""
    yield from _opened("smollm2-135m-q4", default_model_home, LlamaCppEngine)


@pytest.fixture(scope="session")
def transformers(default_model_home: Path) -> Iterator[TransformersEngine]:
    """The default model in transformers, 32 bits."""
    yield from _opened("smollm2-135m@transformers", default_model_home, TransformersEngine)


def _opened(name: str, home: Path, kind: type[Opened]) -> Iterator[Opened]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATKIT_HOME", str(home))
        engine = open_engine(name)
    assert isinstance(engine, kind)
    yield engine
    asyncio.run(engine.close())
