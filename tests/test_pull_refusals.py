"""Pulling what cannot be had: each cause is named, and nothing is lost."""

import pytest
from local_hub import GOOD_TOKEN, LocalHub, local_hub
from pulling import CHECKPOINT, HUB, HUB_GGUF, Recorder, entry_with, files_in

from chatkit.errors import (
    ChecksumMismatch,
    GatedModel,
    HubUnreachable,
    ModelUnavailable,
)
from chatkit.loading.folder import folder_of, require_pulled
from chatkit.loading.pull import pull, pull_reference

pytest_plugins = ("hub_fixture",)


def test_offline_forbids_the_network(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_OFFLINE", "1")
    for source in (HUB, HUB_GGUF):
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
