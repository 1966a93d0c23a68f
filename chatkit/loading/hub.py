"""The model hub over plain HTTP: what a repository holds, and its refusals in words.

The hub's own client checks sizes but no SHA-256 (huggingface_hub issue 3643), reads its
environment once at import and reports progress per file only in its later versions; the protocol
underneath is one listing and one address per file, so it is spoken here directly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError

from chatkit.errors import ChatkitError, GatedModel, HubUnreachable, ModelUnavailable
from chatkit.loading.disk import ensure_room, size_of
from chatkit.loading.download import RemoteFile, download, partial_of
from chatkit.loading.progress import Progress
from chatkit.settings import Settings, settings

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0


# These end up in file names here, so they are what they claim to be.
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]


class _LargeFile(BaseModel):
    sha256: _Digest


class _Sibling(BaseModel):
    rfilename: str
    size: int | None = None
    blobId: _Digest | None = None
    lfs: _LargeFile | None = None


class _Listing(BaseModel):
    sha: _Digest
    siblings: tuple[_Sibling, ...] = ()


@dataclass(frozen=True, slots=True)
class Repository:
    """One commit of a repository: its files by name."""

    name: str
    commit: str
    files: dict[str, RemoteFile]


class Hub:
    """A hub that answers; made by `open_hub`."""

    def __init__(self, client: "httpx.Client", settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def repository(self, name: str, revision: str) -> Repository:
        """List the files of a repository as they are now.

        Args:
            name: `org/name`.
            revision: a branch, a tag or a commit.

        Raises:
            HubUnreachable: the hub did not answer, or something else answered in its place.
            GatedModel: the publisher asks for an agreement first.
            ModelUnavailable: there is no such repository or revision.
        """
        import httpx

        url = f"{self._settings.hub}/api/models/{name}/revision/{quote(revision, safe='')}"
        try:
            response = self._client.get(url, params={"blobs": "true"})
            response.raise_for_status()
            listing = _Listing.model_validate_json(response.content)
        except httpx.HTTPStatusError as error:
            raise self._refusal(error.response, name, revision) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        except ValidationError as error:
            raise self._unreachable("what answered is no model hub") from error
        files = {row.rfilename: self._remote(name, listing.sha, row) for row in listing.siblings}
        return Repository(name, listing.sha, files)

    def fetch(
        self,
        repository: Repository,
        targets: dict[str, Path],
        staging: Path,
        progress: Progress,
    ) -> dict[str, str]:
        """Bring files of a repository here, each verified, resumed and moved in one step.

        Args:
            repository: a listing of this hub.
            targets: for each file of the listing, where it goes.
            staging: an existing folder on the same disk for unfinished files.
            progress: told about each piece.

        Returns:
            The SHA-256 of each file, by its name in the repository.

        Raises:
            DiskFull: there is no room for all of them; nothing was begun.
            ChatkitError: whatever `chatkit.loading.download.download` raises, or a refusal.
        """
        import httpx

        files = {name: repository.files[name] for name in targets}
        missing = (_missing(file, targets[name], staging) for name, file in files.items())
        ensure_room(staging, sum(missing))
        try:
            return {
                name: download(self._client, file, targets[name], staging, progress)
                for name, file in files.items()
            }
        except httpx.HTTPStatusError as error:
            raise self._refusal(error.response, repository.name, repository.commit) from error

    def _remote(self, repository: str, commit: str, row: _Sibling) -> RemoteFile:
        return RemoteFile(
            name=row.rfilename.rpartition("/")[2],
            url=f"{self._settings.hub}/{repository}/resolve/{commit}/{quote(row.rfilename)}",
            version=(row.lfs.sha256 if row.lfs else row.blobId) or commit,
            bytes=row.size,
            sha256=row.lfs.sha256 if row.lfs else None,
            git_blob=None if row.lfs else row.blobId,
        )

    def _unreachable(self, reason: str) -> HubUnreachable:
        return HubUnreachable(
            f"The model hub {self._settings.hub} did not answer ({reason}); check the network, or "
            "set HF_ENDPOINT to a mirror."
        )

    def _refusal(self, response: "httpx.Response", name: str, revision: str) -> ChatkitError:
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        page = f"{self._settings.hub}/{name}"
        if code == "GatedRepo":
            return self._gated(name, page)
        if "Invalid credentials" in response.headers.get("X-Error-Message", ""):
            return ModelUnavailable(
                f"The hub does not know the token in HF_TOKEN; make a new one at "
                f"{self._settings.hub}/settings/tokens, or unset it for public models."
            )
        if code in ("RevisionNotFound", "EntryNotFound"):
            return ModelUnavailable(f"{name} has no revision {revision}; see {page}.")
        if status in (401, 403, 404):
            return ModelUnavailable(
                f"The hub shows no repository {name} (it answered {status}); check the spelling, "
                "or set HF_TOKEN if it is private."
            )
        return self._unreachable(f"it answered {status}")

    def _gated(self, name: str, page: str) -> GatedModel:
        if self._settings.hub_token is None:
            return GatedModel(
                f"{name} is gated: accept its terms at {page}, make a read token at "
                f"{self._settings.hub}/settings/tokens, set HF_TOKEN to it and pull again."
            )
        return GatedModel(
            f"{name} is gated and the token in HF_TOKEN may not read it: accept its terms at "
            f"{page} with the token's account, or wait until the publisher has agreed."
        )


@contextmanager
def open_hub(name: str) -> Iterator[Hub]:
    """Open a connection to the hub that `HF_ENDPOINT` names, with `HF_TOKEN` where it is set.

    Args:
        name: what is going to be fetched, for the message when that is forbidden.

    Raises:
        HubUnreachable: `CHATKIT_OFFLINE` forbids the network.
    """
    import httpx

    current = settings()
    forbid_offline(name)
    token = {"Authorization": f"Bearer {current.hub_token}"} if current.hub_token else {}
    with httpx.Client(
        # Compressed answers would make byte ranges meaningless.
        headers={"Accept-Encoding": "identity", "User-Agent": "chatkit", **token},
        timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=True,
    ) as client:
        yield Hub(client, current)


def forbid_offline(name: str) -> None:
    """Refuse to use the network when `CHATKIT_OFFLINE` says so.

    Raises:
        HubUnreachable: it does.
    """
    if settings().offline:
        raise HubUnreachable(
            f"CHATKIT_OFFLINE forbids the network, and {name} is not on this machine; unset it and "
            "pull again."
        )


def _missing(file: RemoteFile, target: Path, staging: Path) -> int:
    """Count the bytes that are still to come, 0 where the hub did not tell a size."""
    if file.bytes is None or size_of(target) == file.bytes:
        return 0
    return max(0, file.bytes - size_of(partial_of(file, target, staging)))
