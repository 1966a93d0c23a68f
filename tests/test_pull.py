"""Pulling: what a person gets."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from local_hub import LocalHub, sha256
from pulling import (
    CHECKPOINT,
    GGUF,
    HUB,
    HUB_GGUF,
    entry_with,
    files_in,
    folder_of_reference,
    write_a_tokenizer,
)
from typer.testing import CliRunner, Result

from chatkit.cli.pull import pull as pull_command
from chatkit.errors import (
    ChatkitError,
    InputError,
    ModelFileError,
    NotPulled,
    Unsupported,
)
from chatkit.loading.folder import folder_of, require_pulled, require_reference
from chatkit.loading.pull import pull, pull_reference

pytest_plugins = ("hub_fixture",)


def test_a_checkpoint_of_the_hub_arrives_with_its_tokenizer(hub: LocalHub) -> None:
    folder = pull(entry_with(HUB))
    for name, content in CHECKPOINT.items():
        assert (folder.checkpoint / name).read_bytes() == content
    assert (folder.tokenizer / "tokenizer.json").read_bytes() == CHECKPOINT["tokenizer.json"]
    assert folder.complete
    assert folder.serves("transformers")
    assert not folder.serves("llamacpp")


def test_the_manifest_tells_where_each_file_came_from(hub: LocalHub) -> None:
    commit = hub.add("org/name", CHECKPOINT)
    manifest = pull(entry_with(HUB)).manifest
    assert manifest is not None
    assert manifest.name == "tested"
    (source,) = manifest.sources
    assert (source.kind, source.origin, source.commit) == ("hub", "org/name", commit)
    assert {file.path: file.sha256 for file in source.files} == {
        f"checkpoint/{name}": sha256(content) for name, content in CHECKPOINT.items()
    }
    assert manifest.files["checkpoint/model.safetensors"] == 400_000


def test_pickles_code_and_second_copies_stay_on_the_hub(hub: LocalHub) -> None:
    unwanted = {
        "pytorch_model.bin": b"pickle",
        "modeling_name.py": b"code",
        "consolidated.safetensors": b"again",
        "onnx/model.safetensors": b"elsewhere",
        "../../../outside.safetensors": b"hostile",
        "README.md": b"words",
    }
    hub.add("org/name", {**CHECKPOINT, **unwanted})
    folder = pull(entry_with(HUB))
    assert {path.name for path in folder.checkpoint.iterdir()} == set(CHECKPOINT)


def test_weights_in_parts_arrive_with_their_index(hub: LocalHub) -> None:
    parts = {f"model-0000{n}-of-00002.safetensors": os.urandom(1000) for n in (1, 2)}
    files = {"config.json": b"{}", "model.safetensors.index.json": b"{}", **parts}
    hub.add("org/name", files)
    assert {path.name for path in pull(entry_with(HUB)).checkpoint.iterdir()} == set(files)


def test_one_gguf_of_a_repository_arrives(hub: LocalHub) -> None:
    folder = pull(entry_with(HUB_GGUF))
    assert folder.gguf.read_bytes() == GGUF
    assert files_in(folder) == {"model.q8_0.gguf", "pulled.json"}


def test_a_hub_that_tells_no_sizes_and_hashes_still_serves(hub: LocalHub) -> None:
    hub.hides_sizes = True
    folder = pull(entry_with(HUB))
    assert (folder.checkpoint / "model.safetensors").read_bytes() == CHECKPOINT["model.safetensors"]


def test_a_pulled_model_is_not_asked_for_again(hub: LocalHub) -> None:
    pull(entry_with(HUB))
    hub.asked.clear()
    assert pull(entry_with(HUB)).complete
    assert hub.asked == []


def test_a_second_engine_adds_its_files_and_keeps_the_first(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_with(HUB_GGUF, HUB)
    monkeypatch.setattr("chatkit.loading.pull.materialise", write_a_tokenizer)
    folder = pull(entry)
    assert not folder.serves("transformers")
    pull(entry, engine="transformers")
    assert (folder.tokenizer / "tokenizer.json").read_text() == "from the GGUF"
    assert folder.serves("llamacpp")
    assert folder.serves("transformers")
    assert folder.manifest is not None
    assert [source.kind for source in folder.manifest.sources] == ["gguf", "hub"]


def test_a_file_that_went_missing_is_fetched_again_alone(hub: LocalHub) -> None:
    folder = pull(entry_with(HUB))
    (folder.checkpoint / "model.safetensors").unlink()
    assert not folder.complete
    hub.asked.clear()
    assert pull(entry_with(HUB)).complete
    assert [request.path.rpartition("/")[2] for request in hub.asked] == [
        "main",
        "model.safetensors",
    ]


def test_a_repository_is_pulled_by_its_name_alone(hub: LocalHub) -> None:
    folder = pull_reference("org/name")
    assert folder.path.name == "org--name"
    assert require_reference("org/name") == folder
    assert folder.serves("transformers")


@pytest.mark.parametrize("name", ["name", "org/", "org/../name", "org/name/more", "https://a/b"])
def test_a_name_that_is_no_repository_is_bad_input(hub: LocalHub, name: str) -> None:
    with pytest.raises(InputError, match="write it as org/name"):
        pull_reference(name)


def test_an_engine_that_the_model_has_no_files_for_is_refused(hub: LocalHub) -> None:
    with pytest.raises(Unsupported, match="tested has no files for llamacpp; it runs on transf"):
        pull(entry_with(HUB), engine="llamacpp")


def test_a_model_that_is_not_here_names_the_command(hub: LocalHub) -> None:
    with pytest.raises(NotPulled, match="run `python -m chatkit pull tested`"):
        require_pulled(entry_with(HUB))
    with pytest.raises(NotPulled, match="pull tested --engine transformers`"):
        require_pulled(entry_with(HUB_GGUF, HUB), "transformers")
    with pytest.raises(NotPulled, match="pull org/name`"):
        require_reference("org/name")


def test_home_moves_with_the_environment(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_HOME", str(tmp_path / "elsewhere"))
    assert pull(entry_with(HUB)).path == tmp_path / "elsewhere" / "models" / "tested"


def test_a_pull_that_wrote_nothing_to_run_is_an_error(hub: LocalHub) -> None:
    entry = entry_with(HUB_GGUF).model_copy(update={"run_precision": "f16"})
    with pytest.raises(ModelFileError, match="holds nothing that llamacpp can run"):
        pull(entry)
    assert not folder_of(entry).serves("llamacpp")


@pytest.fixture
def command(hub: LocalHub) -> Callable[..., Result]:
    """The command line, as it is typed."""
    app = typer.Typer()
    app.command()(pull_command)
    return lambda *words: CliRunner().invoke(app, words)


def test_the_command_tells_where_how_large_and_what_next(command: Callable[..., Result]) -> None:
    result = command("org/name")
    folder = folder_of_reference()
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"org/name is in {folder.path} (400.2 kB).",
        "Talk to it: python -m chatkit chat org/name",
    ]
    assert "model.safetensors: 400.0 kB of 400.0 kB" in result.stderr


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["smollm2-135n"], "did you mean smollm2-135m"),
        (["smollm2-135m@vllm"], "No engine is called 'vllm'"),
        (["smollm2-135m@transformers", "--engine", "llamacpp"], "give one of them"),
        (["org/name", "--engine", "llamacpp"], "which runs on transformers"),
        (["org/nmae"], "shows no repository org/nmae"),
    ],
)
def test_the_command_passes_on_what_was_wrong(
    command: Callable[..., Result], words: list[str], cause: str
) -> None:
    result = command(*words)
    assert isinstance(result.exception, ChatkitError)
    assert cause in str(result.exception)
