"""Rate limits at the API: what is counted for whom, what answers tell, and what a refusal is like."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

from msgcore.config import Settings
from servers.api_client import ApiClient, Reply
from servers.clock import FakeClock
from servers.in_process import InProcess, in_this_process
from servers.metrics import Exposition
from servers.patience import PATIENCE
from servers.valkey import ValkeyServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEND = "projects/shop/messages/send"
LONG_WAY = {"Origin": "https://app.example.com"}
RATES = {
    "rate_key_sending": 4,
    "rate_key_reading": 30,
    "rate_key_changing": 12,
    "rate_project_sending": 6,
    "rate_project_batched": 20,
    "rate_webhook": 3,
    "rate_address": 20,
    "rate_address_failures": 3,
}
"""Few, on a clock that stands still."""


@dataclass
class Served:
    """A gateway, its clock, and a sandbox."""

    running: InProcess
    clock: FakeClock
    platform_id: str
    hook: str
    before: Counter[str] = field(default_factory=Counter)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        return await asyncio.to_thread(self.running.api.ask, method, path, body, **headers)

    async def send(self, client: ApiClient | None = None, **headers: str) -> Reply:
        return await asyncio.to_thread((client or self.running.api).ask, "POST", SEND, self.message(), **headers)

    def message(self) -> dict[str, Any]:
        return {"targets": [{"platformId": self.platform_id, "type": "user", "id": "ann"}], "content": {"text": "hi"}}

    async def refused(self) -> dict[str, int]:
        """How many were refused in this test, by limit, as the metrics tell."""
        return dict(await self.all_refused() - self.before)

    async def all_refused(self) -> Counter[str]:
        exposition = Exposition((await self.running.gateway._monitoring.exposition()).decode())
        samples = exposition.families["msgcore_rate_limited"].samples
        return Counter({sample.labels["limit"]: int(sample.value) for sample in samples})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> AsyncIterator[Served]:
    clock, folder = FakeClock(), tmp_path_factory.mktemp("gateway")
    url = SecretStr(f"sqlite:///{shutil.copy(migrated_sqlite, folder / 'msgcore.db')}")
    settings = Settings(data_dir=folder, database_url=url, trusted_proxies=("127.0.0.0/8",), **RATES)
    async with in_this_process(settings, clock=clock) as running:
        await running.set_up()
        hook = await running.add_sandbox()
        [platform] = await running.ask("GET", "projects/shop/platforms")
        yield Served(running, clock, platform["id"], hook)


@pytest_asyncio.fixture(loop_scope="module")
async def served(gateway: Served) -> Served:
    """With budgets that are whole, and a key that was seen a moment ago."""
    gateway.clock.advance(600)
    await gateway.ask("GET", "auth/whoami")
    gateway.before = await gateway.all_refused()
    return gateway


def told(reply: Reply) -> tuple[int, ...]:
    """Status, and what the headers say: limit, remaining, reset, and when to come back."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")
    return (reply.status, *(int(reply.headers[name]) for name in names if name in reply.headers))


@pytest.mark.parametrize("way", [{}, LONG_WAY], ids=["short way", "long way"])
async def test_sending(served: Served, way: dict[str, str]) -> None:
    replies = [await served.send(**way) for _ in range(5)]
    assert [told(reply) for reply in replies] == [
        *((201, 4, 3 - number, 15 * (number + 1)) for number in range(4)),
        (429, 4, 0, 68, 8),
    ]
    refusal = replies[-1].body
    assert (refusal["statusCode"], refusal["error"], refusal["title"]) == (429, *["Too Many Requests"] * 2)
    assert "MSGCORE_RATE_KEY_SENDING" in refusal["message"] == refusal["detail"]
    assert refusal["requestId"] == replies[-1].headers["x-request-id"]
    assert (await served.ask("GET", "auth/whoami")).status == 200, "reading has a budget of its own"
    served.clock.advance(8)
    assert (await served.send(**way)).status == 201
    assert await served.refused() == {"key_sending": 1}


async def test_a_request_that_is_wrong_counts_once(served: Served) -> None:
    for number in range(4):
        reply = await served.ask("POST", SEND, {"targets": []})
        assert told(reply)[:3] == (400, 4, 3 - number)
    assert (await served.send()).status == 429
    assert (await served.ask("POST", SEND, b"{")).status == 429


async def test_a_project_and_its_people(served: Served) -> None:
    user = (await served.ask("POST", "auth/login", {"email": "ann@example.com", "password": "Passw0rd1"})).body
    ann = ApiClient(served.running.url, {}).as_user(user["accessToken"])
    assert [(await served.send(ann)).status for _ in range(5)] == [201] * 4 + [429]
    assert [told(await served.send()) for _ in range(3)] == [(201, 6, 1, 50), (201, 6, 0, 60), (429, 6, 0, 65, 5)]
    served.clock.advance(600)
    assert [(await served.send()).status for _ in range(4)] == [201] * 4
    assert [told(await served.send(ann)) for _ in range(3)] == [(201, 6, 1, 50), (201, 6, 0, 60), (429, 6, 0, 65, 5)]
    assert await served.refused() == {"key_sending": 1, "project_sending": 2}


async def test_somebody_who_may_not_is_counted_too_but_not_for_the_project(served: Served) -> None:
    for status in (404, 404, 404, 404, 429):
        assert (await served.ask("POST", "projects/other/messages/send", served.message())).status == status
    assert (await served.ask("POST", "projects/shop/messages/send", served.message())).status == 429


async def test_batches_count_their_messages(served: Served) -> None:
    batch = {"messages": [served.message()] * 15}
    first = await served.ask("POST", "projects/shop/messages/batch", batch, Idempotency_Key="one")
    again = await served.ask("POST", "projects/shop/messages/batch", batch, Idempotency_Key="one")
    assert (first.status, again.status, again.body["replayed"]) == (201, 201, True)
    assert (await served.ask("POST", "projects/shop/messages/batch", batch)).status == 201
    refusal = await served.ask("POST", "projects/shop/messages/batch", batch)
    assert told(refusal) == (429, 20, 0, 92, 32)
    assert "MSGCORE_RATE_PROJECT_BATCHED" in refusal.body["message"]


async def test_platforms_are_counted_by_address_of_webhook(served: Served) -> None:
    statuses = [(await served.ask("POST", served.hook, {"type": "nothing"})).status for _ in range(4)]
    assert statuses[:3] == statuses[:1] * 3
    assert statuses[3] == 429
    chunked = await served.ask("POST", served.hook, {"type": "nothing"}, Expect="")
    assert (chunked.status, chunked.headers["retry-after"]) == (429, "10")
    unknown = served.hook.rpartition("/")[0] + "/unknown"
    assert [(await served.ask("POST", unknown, {})).status for _ in range(4)] == [404, 404, 404, 429]
    assert await served.refused() == {"webhook": 2, "address_failures": 1}


@pytest.mark.parametrize("way", [{}, {"Expect": ""}], ids=["short way", "long way"])
async def test_who_invents_addresses_of_webhooks_is_kept_out(served: Served, way: dict[str, str]) -> None:
    invented = [f"{served.hook}{number}" + "/" * (number % 2) for number in range(4)]
    known = await served.ask("POST", served.hook, {"type": "nothing"}, **way)
    assert [(await served.ask("POST", hook, {}, **way)).status for hook in invented] == [404, 404, 404, 429]
    assert (await served.ask("POST", served.hook, {"type": "nothing"}, **way)).status == known.status
    assert await served.refused() == {"address_failures": 1}
    nobody = [await served.ask("GET", f"webhooks/nobody/{number}", **way) for number in range(21)]
    assert [reply.status for reply in nobody] == [405] * 20 + [429]


async def addresses(served: Served, *forwarded: str, path: str = "platforms/supported") -> Sequence[int]:
    nobody = ApiClient(served.running.url, {"X-API-Key": "msc_wrong"})
    asked = [asyncio.to_thread(nobody.ask, "GET", path, X_Forwarded_For=each) for each in forwarded]
    return [(await each).status for each in asked]


async def test_strangers_are_counted_by_address(served: Served) -> None:
    assert set(await addresses(served, *["198.51.100.9, 192.0.2.1"] * 20)) == {200}
    assert await addresses(served, "192.0.2.1", "198.51.100.9, 192.0.2.1", "192.0.2.1, 192.0.2.2") == [429, 429, 200]
    assert set(await addresses(served, *[f"2001:db8::{number}" for number in range(20)])) == {200}
    assert await addresses(served, "2001:db8::ffff", "2001:db8:0:1::") == [429, 200]
    assert set(await addresses(served, *["192.0.2.1"] * 30, path="health/live")) == {200}, "monitoring is not counted"
    assert await served.refused() == {"address": 3}


async def test_who_guesses_is_kept_out_and_others_at_its_address_are_not(served: Served) -> None:
    assert await addresses(served, *["192.0.2.1"] * 5, path="auth/whoami") == [401, 401, 401, 429, 429]
    assert await addresses(served, "192.0.2.2", path="auth/whoami") == [401]
    served.clock.advance(6)  # what is remembered of the key is too old
    assert (await served.ask("GET", "auth/whoami", X_Forwarded_For="192.0.2.1")).status == 200


async def test_messages_over_a_socket_are_counted(served: Served) -> None:
    url = served.running.url + "/api/v1/projects/shop/ws"
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=served.running.api.headers) as socket,
    ):
        await socket.send_json({"type": "open"})
        assert (await socket.receive_json())["type"] == "opened"
        answers: list[dict[str, Any]] = []
        for number in range(5):
            await socket.send_json({"type": "send", "requestId": str(number), "message": served.message()})
        while len(answers) < 5:
            frame = await socket.receive_json()
            answers += [frame] if frame["type"] in {"sent", "error"} else []
    assert [frame["type"] for frame in answers] == ["sent"] * 4 + ["error"]
    assert "MSGCORE_RATE_KEY_SENDING" in str(answers[-1])


async def test_a_socket_too_many(served: Served) -> None:
    url = served.running.url + "/api/v1/projects/shop/ws"
    while (await served.ask("GET", "auth/whoami")).status == 200:
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url, headers=served.running.api.headers)
    assert (caught.value.status, caught.value.headers and caught.value.headers["retry-after"]) == (429, "1")


async def test_two_gateways_share_what_a_key_may_send(postgres_url: str, tmp_path: Path) -> None:
    with ValkeyServer() as valkey:
        settings = Settings(
            data_dir=tmp_path,
            database_url=SecretStr(postgres_url),
            redis_url=SecretStr(valkey.url),
            rate_key_sending=20,
            shutdown_seconds=0.5,
        )
        async with in_this_process(settings, worker=False) as one, in_this_process(settings, worker=False) as two:
            key = await one.set_up()
            await one.add_sandbox()
            [platform] = await one.ask("GET", "projects/shop/platforms")
            two.api = two.api.as_key(key)
            body = {
                "targets": [{"platformId": platform["id"], "type": "user", "id": "ann"}],
                "content": {"text": "hi"},
            }

            async def send(gateway: InProcess) -> int:
                return (await asyncio.to_thread(gateway.api.ask, "POST", SEND, body)).status

            assert [await send(one) for _ in range(15)] == [201] * 15
            async with asyncio.timeout(PATIENCE):
                while spent(valkey) < 40:
                    await asyncio.sleep(0.01)
            let_in = 0
            while await send(two) == 201:
                let_in += 1
            assert 5 <= let_in < 20
            valkey.kill()
            assert await send(two) == 429
            for each in (one, two):
                assert (await each.ask("GET", "auth/whoami"))["project"]["id"] == "shop"


def spent(valkey: ValkeyServer) -> float:
    """The seconds of its budget that the key has spent, as Valkey knows."""
    with valkey.client() as client:
        return max((client.pttl(name) / 1000 for name in client.keys("*:rate:*:key_sending:*")), default=0.0)
