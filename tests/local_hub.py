"""A small model hub on 127.0.0.1 with the real one's addresses and headers, and faults to order.

It also serves a simple package index, so that pip can really download without a network.
"""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

GOOD_TOKEN = "hf_good"
_LARGE = (".safetensors", ".gguf", ".bin")
_CHUNK = 16 * 1024
# A gate that a broken program never reaches opens by itself, so that the test fails and ends.
GATE_SECONDS = 20


class Asked(NamedTuple):
    """One request: its path, its Range header and its Authorization header."""

    path: str
    range: str | None
    authorization: str | None


@dataclass
class Gate:
    """Holds an answer after its first half, until the test opens it."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    gave_up: bool = False


@dataclass
class Repository:
    """A repository: its files and its commit."""

    files: dict[str, bytes]
    commit: str
    gated: bool = False


class LocalHub:
    """What the server holds, what it was asked, and the faults it was told to make."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.packages: dict[str, dict[str, bytes]] = {}
        self.asked: list[Asked] = []
        self.url = ""
        self.content_network: LocalHub | None = None
        self.ignores_ranges = False
        self.hides_sizes = False
        self.drops: dict[str, list[int]] = defaultdict(list)
        self.statuses: dict[str, list[int]] = defaultdict(list)
        self.replaced: dict[str, bytes] = {}
        self.gates: dict[str, Gate] = {}
        self.blobs: dict[str, bytes] = {}

    def add(self, name: str, files: dict[str, bytes], *, gated: bool = False) -> str:
        """Add a repository, or a new commit of one; return the commit."""
        content = b"".join(name.encode() + data for name, data in sorted(files.items()))
        commit = hashlib.sha1(content).hexdigest()
        self.repositories[name] = Repository(files, commit, gated)
        return commit

    def asked_for(self, ending: str) -> list[Asked]:
        """The requests whose path ends so."""
        return [request for request in self.asked if request.path.endswith(ending)]


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """Run a hub on a free port."""
    hub = LocalHub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = _Server(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        for gate in hub.gates.values():
            gate.opened.set()
        server.shutdown()
        server.server_close()
        thread.join()


def git_blob(data: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up, which is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else the body waits until the client has confirmed the headers, which it does late.
    disable_nagle_algorithm = True
    hub: LocalHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        headers = self.headers
        self.hub.asked.append(Asked(path, headers.get("Range"), headers.get("Authorization")))
        for ending, statuses in self.hub.statuses.items():
            if path.endswith(ending) and statuses:
                return self._send(statuses.pop(0))
        match path.strip("/").split("/"):
            case ["api", "models", owner, name, "revision", revision]:
                blobs = parse_qs(parts.query).get("blobs") == ["true"]
                self._listing(f"{owner}/{name}", revision, blobs)
            case [owner, name, "resolve", revision, *file]:
                self._resolve(f"{owner}/{name}", revision, "/".join(file))
            case ["blobs", digest, file]:
                self._content(file, self.hub.blobs[digest])
            case ["simple", project]:
                self._index(project)
            case ["packages", project, file]:
                self._content(file, self.hub.packages[project][file])
            case _:
                self._send(404)

    def _listing(self, name: str, revision: str, blobs: bool) -> None:
        repository = self._repository(name, revision)
        if repository is not None:
            rows = [self._row(file, data, blobs) for file, data in repository.files.items()]
            listing = {"id": name, "sha": repository.commit, "siblings": rows}
            self._send(200, json.dumps(listing).encode())

    def _row(self, file: str, data: bytes, blobs: bool) -> dict[str, object]:
        if not blobs or self.hub.hides_sizes:
            return {"rfilename": file}
        row: dict[str, object] = {"rfilename": file, "size": len(data), "blobId": git_blob(data)}
        if file.endswith(_LARGE):
            row["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 135}
        return row

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if repository.gated and self._token() != GOOD_TOKEN:
            status = 401 if self._token() is None else 403
            self._send(status, headers={"X-Error-Code": "GatedRepo"})
        elif file not in repository.files:
            self._send(404, headers={"X-Error-Code": "EntryNotFound"})
        elif self.hub.content_network and file.endswith(_LARGE):
            self._redirect(self.hub.content_network, file, repository.files[file])
        else:
            self._content(file, repository.files[file], {"X-Repo-Commit": repository.commit})

    def _repository(self, name: str, revision: str) -> Repository | None:
        if self._token() not in (None, GOOD_TOKEN, "hf_other_account"):
            message = {"X-Error-Message": "Invalid credentials in Authorization header"}
            self._send(401, headers=message)
            return None
        repository = self.hub.repositories.get(name)
        if repository is None:
            # The real hub hides whether a repository exists from those without a token.
            self._send(401 if self._token() is None else 404)
            return None
        if revision not in ("main", repository.commit):
            self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
            return None
        return repository

    def _redirect(self, network: LocalHub, file: str, data: bytes) -> None:
        network.blobs[sha256(data)] = data
        self._send(302, headers={"Location": f"{network.url}/blobs/{sha256(data)}/{file}"})

    def _index(self, project: str) -> None:
        links = "".join(
            f'<a href="/packages/{project}/{file}">{file}</a>'
            for file in self.hub.packages.get(project, {})
        )
        page = f"<!DOCTYPE html><html><body>{links}</body></html>"
        self._send(200, page.encode(), {"Content-Type": "text/html"})

    def _content(self, file: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        data = self.hub.replaced.get(file, data)
        start = self._start()
        if start >= len(data) > 0:
            return self._send(416)
        self.send_response(206 if start else 200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self._write(file, data[start:])

    def _write(self, file: str, data: bytes) -> None:
        gate, drops = self.hub.gates.get(file), self.hub.drops[file]
        stop = drops.pop(0) if drops else len(data)
        half = len(data) // 2
        try:
            for begin in range(0, stop, _CHUNK):
                if gate and begin + _CHUNK > half and not gate.opened.is_set():
                    self.wfile.flush()
                    gate.reached.set()
                    gate.gave_up = not gate.opened.wait(GATE_SECONDS)
                self.wfile.write(data[begin : min(begin + _CHUNK, stop)])
        except OSError:
            stop = 0
        self.close_connection = stop < len(data)

    def _start(self) -> int:
        asked = self.headers.get("Range")
        if asked is None or self.hub.ignores_ranges:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _token(self) -> str | None:
        header = self.headers.get("Authorization")
        return header.removeprefix("Bearer ") if header else None

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
