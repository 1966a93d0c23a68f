"""People at a page: each is a real websocket that says and hears what the browser would."""

import asyncio
import json
import re
import secrets
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import websockets

_TOKEN = re.compile(r'"token":\s*"([^"]+)"')
_CONVERSATION = re.compile(r'"conversation",\s*"([0-9a-f]{32})"')
_OVER = re.compile(r'"state",\s*"done"')
_STAMP = re.compile(r"at(\d{10,})")


@dataclass
class Person:
    """Somebody who has opened the page.

    Args:
        url: of the page.
        delays: how old each word was when it came, in seconds.
        updates: how often the page was told something.
    """

    url: str
    delays: list[float] = field(default_factory=list)
    updates: int = 0

    async def open(self) -> None:
        """Load the page and connect."""
        html = await asyncio.to_thread(lambda: urllib.request.urlopen(self.url).read().decode())
        (token,) = _TOKEN.findall(html)[:1]
        address = self.url.replace("http:", "ws:") + "/ws"
        protocols = [websockets.Subprotocol(one) for one in ("bokeh", token)]
        self._socket = await websockets.connect(address, subprotocols=protocols, max_size=None)
        self._visitor = secrets.token_hex(32)
        self._newest = 0
        await self._hear()
        await self._send("PULL-DOC-REQ", {})
        document = json.loads(await self._hear())
        self._view = _find(document, "MessageView")

    async def ready(self) -> None:
        """Show who it is, and see the empty page."""
        await self._say({"type": "ready", "visitor": self._visitor, "conversation": ""})
        await self._until("show")

    async def ask(self, question: str) -> None:
        """Ask, and listen until the answer is whole."""
        id = secrets.token_hex(16)
        await self._say({"type": "begin", "id": id, "conversation": ""})
        conversation = (await self._until("place"))["conversation"]
        sent = {"type": "send", "id": id, "text": question, "parent": None}
        await self._say({**sent, "conversation": conversation})
        while not (await self._until("grow", "put", "show")).get("over"):
            pass

    async def close(self) -> None:
        """Leave."""
        await self._socket.close()

    async def _until(self, *wanted: str) -> dict[str, Any]:
        while True:
            said = await self._hear()
            now = time.monotonic_ns()
            for stamp in _STAMP.findall(said):
                if int(stamp) > self._newest:
                    self._newest = int(stamp)
                    self.delays.append((now - int(stamp)) / 1e9)
            for op in wanted:
                if f'"op","{op}"' in said.replace(" ", ""):
                    self.updates += 1
                    place = _CONVERSATION.search(said)
                    over = _OVER.search(said) is not None
                    return {"op": op, "conversation": place and place[1], "over": over}

    async def _say(self, data: dict[str, Any]) -> None:
        values = [["model", {"id": self._view}], ["data", _map(data)]]
        event = {
            "type": "event",
            "name": "data_event",
            "values": {"type": "map", "entries": values},
        }
        told = {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": event}
        await self._send("PATCH-DOC", {"events": [told]})

    async def _send(self, kind: str, content: dict[str, Any]) -> None:
        header = {"msgid": secrets.token_hex(8).upper(), "msgtype": kind}
        for part in (header, {}, content):
            await self._socket.send(json.dumps(part))

    async def _hear(self) -> str:
        """Take one whole message, of many frames, and give its content."""
        header = json.loads(await self._socket.recv())
        await self._socket.recv()
        content = str(await self._socket.recv())
        for _ in range(header.get("num_buffers", 0)):
            await self._socket.recv()
            await self._socket.recv()
        return content


def _map(data: dict[str, Any]) -> dict[str, Any]:
    return {"type": "map", "entries": [[key, value] for key, value in data.items()]}


def _find(node: Any, kind: str) -> str:
    """Find the model of a kind."""
    if isinstance(node, dict):
        attributes = node.get("attributes")
        if isinstance(attributes, dict) and attributes.get("class_name") == kind:
            return str(node["id"])
    for inner in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        if found := _find(inner, kind):
            return found
    return ""
