"""Two API processes and a worker over one PostgreSQL and one Valkey: clients of one get what happens at another.

The second API runs in the test's process, where nobody looks into the log by himself: what comes was told.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from pydantic import SecretStr

from msgcore.api import events
from msgcore.app import Gateway
from msgcore.config import Settings
from msgcore.core.ids import new_id
from msgcore.core.tasks import end
from msgcore.services import event_streams
from servers.gateway import GatewayProcess
from servers.in_process import in_this_process
from servers.patience import PATIENCE
from servers.valkey import ValkeyServer

PROJECT = "/api/v1/projects/bench"
WANTED = "types=message.received"


class Clients:
    """A stream, a WebSocket and somebody who asks for pages, all of one API; and what each got."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url + PROJECT
        self.seen: dict[str, list[str]] = {"stream": [], "socket": [], "pages": []}
        self.socket: aiohttp.ClientWebSocketResponse | None = None

    async def stream(self) -> None:
        headers = {"Accept": "text/event-stream"}
        async with self._http.get(f"{self._url}/events?{WANTED}", headers=headers) as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    self._note("stream", msgspec.json.decode(line[6:]))

    async def listen(self) -> None:
        async with self._http.ws_connect(f"{self._url}/ws") as self.socket:
            await self.socket.send_json({"type": "open", "types": ["message.received"]})
            async for message in self.socket:
                if (frame := message.json())["type"] == "event":
                    self._note("socket", frame)

    async def turn_pages(self) -> None:
        after = 0
        while True:
            async with self._http.get(f"{self._url}/events?{WANTED}&wait=60&after={after}") as answer:
                page = await answer.json()
            assert page["events"], "it waited to the end, and was told nothing"
            after = page["next"]
            for event in page["events"]:
                self._note("pages", event)

    async def have(self, *texts: str) -> None:
        """Until each has these, in this order, and nothing else."""
        await until(lambda: all(len(seen) >= len(texts) for seen in self.seen.values()))
        assert self.seen == {client: list(texts) for client in self.seen}

    def _note(self, client: str, event: dict[str, Any]) -> None:
        self.seen[client].append(event["data"]["text"])


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_clients_of_one_api_get_what_another_one_takes(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "LOOK_SECONDS", math.inf)
    monkeypatch.setattr(events, "IDLE_SECONDS", math.inf)
    with ValkeyServer() as valkey:
        shared = {"MSGCORE_REDIS_URL": valkey.url, "MSGCORE_SHUTDOWN_SECONDS": "0.5"}
        settings = Settings(data_dir=tmp_path, database_url=SecretStr(postgres_url), redis_url=SecretStr(valkey.url))
        async with AsyncExitStack() as stack:
            first, _ = (
                stack.enter_context(GatewayProcess(kind, data_dir=tmp_path, database_url=postgres_url, **shared))
                for kind in ("api", "worker")
            )
            key = first.set_up()
            box = first.add_platform(key, "sandbox", {})
            found = first.call("GET", f"{PROJECT}/platforms/{box}", x_api_key=key)
            hook = first.url + "/api/v1" + found["webhookUrl"].partition("/api/v1")[2]
            second = await stack.enter_async_context(in_this_process(settings, worker=False))
            http = await stack.enter_async_context(aiohttp.ClientSession(headers={"X-API-Key": key}))
            clients = Clients(http, second.url)
            for client in (clients.stream, clients.listen, clients.turn_pages):
                stack.push_async_callback(end, asyncio.create_task(client()))
            await follow(clients, second.gateway, valkey, box, lambda text: say(http, hook, text))


async def follow(
    clients: Clients, second: Gateway, valkey: ValkeyServer, box: str, say: Callable[[str], Awaitable[None]]
) -> None:
    def all_wait() -> bool:
        return len(second._receiving.bus._waiting.get("bench", ())) == len(clients.seen)

    await until(all_wait)
    await heard(valkey)
    said = ["one", "two", "three"]
    for number, text in enumerate(said, 1):
        await until(all_wait)
        await say(text)
        await clients.have(*said[:number])
    # The worker, too, has something to tell: it sends what the second API took, and the answer comes to it.
    assert clients.socket is not None
    message = {"targets": [{"platformId": box, "type": "user", "id": "reply:ann"}], "content": {"text": "hi"}}
    await clients.socket.send_json({"type": "send", "requestId": "a", "message": message})
    said.append("You wrote: hi")
    await clients.have(*said)
    # Nobody can be told while Valkey is away; who listens again looks for what was missed.
    for number in range(2):
        valkey.kill()
        said += [f"away {number}", f"away still {number}"]
        for text in said[-2:]:
            await say(text)
        valkey.start()
        await clients.have(*said)
        await heard(valkey)
        said.append(f"back {number}")
        await say(said[-1])
        await clients.have(*said)


async def say(http: aiohttp.ClientSession, hook: str, text: str) -> None:
    """Somebody writes."""
    content = {"kind": "message", "id": new_id(), "text": text}
    report = {"chat": {"id": "room", "type": "group"}, "author": {"id": "ann"}, "content": content}
    async with http.post(hook, json=report) as answer:
        assert answer.ok, await answer.text()


async def heard(valkey: ValkeyServer) -> None:
    """Until all three processes listen."""
    with valkey.client() as client:
        await until(lambda: client.pubsub_numsub("msgcore:events")[0][1] == 3)
