"""The fixture `hub`, for tests that name this module in `pytest_plugins`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_hub import LocalHub, local_hub
from pulling import CHECKPOINT, GGUF, write_nothing


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub and a home of this test's own; nothing that the tester has set counts."""
    for name in ("HF_TOKEN", "CHATKIT_OFFLINE", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("chatkit.loading.download.PAUSE_SECONDS", 0)
    monkeypatch.setattr("chatkit.loading.pull.materialise", write_nothing)
    with local_hub() as server:
        environment = {
            "CHATKIT_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": server.url,
            "NO_PROXY": "127.0.0.1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{server.url}/simple",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server.add("org/name", CHECKPOINT)
        server.add("org/gguf", {"name-Q8_0.gguf": GGUF, "name-F16.gguf": b"GGUF"})
        yield server
