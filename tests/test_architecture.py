"""The house: which module may import which, what is in the wheel, and how fast it opens."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import chatkit

ROOT = Path(__file__).parent.parent
LAYERS = (
    (
        "errors",
        "json_schemas",
        "messages",
        "sampling",
        "settings",
        "telemetry",
        "background",
        "sealing",
        "remembered",
        "yaml_options",
    ),
    (
        "conversation",
        "catalogue",
        "tokenizer",
        "jinja",
        "shield",
        "marks",
        "rendering",
        "scales",
        "template",
    ),
    (
        "naming",
        "prompt",
        "draft",
        "ledger",
        "context",
        "exchange",
        "hardware",
        "memory",
        "stats",
        "provenance",
    ),
    ("loading", "adapters"),
    ("engine", "engines", "models"),
    ("store", "live", "cache"),
    ("identity",),
    ("answering", "rooms", "shelf", "chat", "service"),
    ("markdown", "reply", "display", "answer_stream", "session"),
    ("scorers",),
    ("evaluation",),
    ("finetuning", "comparison"),
    ("ui", "cli"),
)
# Within one layer: who may import whom.
ARROWS = {
    ("messages", "errors"),
    ("sampling", "errors"),
    ("sampling", "json_schemas"),
    ("sealing", "errors"),
    ("yaml_options", "errors"),
    ("settings", "errors"),
    ("template", "tokenizer"),
    ("template", "jinja"),
    ("marks", "jinja"),
    ("template", "shield"),
    ("template", "marks"),
    ("template", "rendering"),
    ("template", "scales"),
    ("rendering", "tokenizer"),
    ("scales", "tokenizer"),
    ("context", "prompt"),
    ("context", "draft"),
    ("context", "ledger"),
    ("memory", "hardware"),
    ("provenance", "hardware"),
    ("adapters", "loading"),
    ("engines", "engine"),
    ("models", "engine"),
    ("models", "engines"),
    ("cache", "store"),
    ("rooms", "answering"),
    ("shelf", "answering"),
    ("shelf", "rooms"),
    ("chat", "answering"),
    ("chat", "rooms"),
    ("chat", "shelf"),
    ("service", "chat"),
    ("service", "rooms"),
    ("answer_stream", "reply"),
    ("answer_stream", "display"),
    ("session", "reply"),
    ("session", "answer_stream"),
    ("session", "display"),
}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = (
    "torch",
    "transformers",
    "panel",
    "xllamacpp",
    "numpy",
    "pandas",
    "huggingface_hub",
    "sqlalchemy",
    "redis",
)

# What only PostgreSQL needs, and what only a database that changes its form needs.
NOT_FOR_SQLITE = ("asyncpg", "alembic", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql")
OPEN_STORES = """
import asyncio
from chatkit.settings import settings
from chatkit.store.opening import open_store, open_temporary_store

async def work():
    for store in (await open_store(settings()), await open_temporary_store()):
        await store.close()

asyncio.run(work())
"""


def modules() -> list[Path]:
    return [
        path for path in sorted((ROOT / "chatkit").rglob("*.py")) if not path.name.startswith("__")
    ]


def unit(path: Path) -> str:
    return path.relative_to(ROOT / "chatkit").parts[0].removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "chatkit":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chatkit."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("chatkit.")]
            found |= {name.split(".")[1] for name in names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_the_layers(path: Path) -> None:
    here = unit(path)
    for there in imported_units(path) - {here}:
        below = RANK[there] < RANK[here] or (here, there) in ARROWS
        assert below, f"{here} may not import {there}"


def test_no_module_bears_the_name_of_a_public_function() -> None:
    names = {unit(path) for path in modules()}
    assert not names & set(chatkit.__all__)


def test_every_public_name_is_there() -> None:
    assert all(getattr(chatkit, name) is not None for name in chatkit.__all__)


@pytest.mark.parametrize("command", ["import chatkit", "import chatkit.cli.main"])
def test_opening_imports_nothing_heavy(command: str) -> None:
    assert loaded_by(command, HEAVY) == []


@pytest.mark.lengthy
def test_a_store_on_sqlite_imports_nothing_of_postgresql_and_no_migrations(own_home: Path) -> None:
    subprocess.run([sys.executable, "-m", "chatkit", "db", "upgrade"], check=True)
    assert loaded_by(OPEN_STORES, NOT_FOR_SQLITE) == []


def loaded_by(program: str, watched: tuple[str, ...]) -> list[str]:
    """Run a program on its own, and name what it loaded of the modules that are watched."""
    script = f"{program}\nimport sys; print(*sorted(set(sys.modules) & set({watched!r})))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return result.stdout.split()


@pytest.mark.lengthy
def test_the_wheel_holds_only_chatkit(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("chatkit_lab-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"chatkit"}
    assert "chatkit/models.yaml" in names


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        chatkit.nonsense  # noqa: B018
