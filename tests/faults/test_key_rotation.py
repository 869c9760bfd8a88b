"""The encryption key is changed while messages flow and credentials change, and the command is killed in the middle.

Promise: every process reads what is under either key throughout, so that no delivery fails; credentials that are changed
meanwhile keep the change; and in the end nothing is under the old key. `make test` runs a short form; `make test-faults`
the long one (MSGCORE_FAULT_KEY_PLATFORMS=10000). The seed is printed; MSGCORE_FAULT_SEED repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import insert, select
from standardwebhooks import WebhookVerificationError

from msgcore.core.ids import new_id
from msgcore.security.keyring import Keyring
from msgcore.services.key_rotation import key_uses, rows_by_key
from msgcore.store.database import Database
from msgcore.store.tables import project_platforms
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from servers.processes import fork, run
from servers.webhook_sink import Posted, WebhookSink

PLATFORMS = int(os.environ.get("MSGCORE_FAULT_KEY_PLATFORMS", "300"))
SEED = int(os.environ.get("MSGCORE_FAULT_SEED", str(random.SystemRandom().randrange(10**9))))
RATE = PLATFORMS // 8
SHORT = 300
KINDS = ["postgresql"] if PLATFORMS <= SHORT else ["sqlite", "postgresql"]
"""A process that answers and one that sends, over one data directory; of SQLite there is one that does both."""

Result = TypeVar("Result")


class Shop:
    """A project with many custom platforms, each with a secret of its own that signs what it posts to the sink."""

    def __init__(self, api: GatewayProcess, others: list[GatewayProcess], sink: WebhookSink) -> None:
        self.api, self.others, self.sink = api, others, sink
        self.key = api.set_up()
        self.client = ApiClient(api.url, {"X-API-Key": self.key})
        self.rng = random.Random(SEED)
        self.ids: list[str] = []
        self.secret: dict[str, str] = {}
        """The newest one of each platform."""
        self.valid: dict[str, set[str]] = {}
        """All that it ever had, by the path that it posts to: what is on its way may carry an earlier one."""
        self.accepted: set[str] = set()
        self.arrived: set[str] = set()
        self.forged = 0
        self.changes = 0
        self.slowest = 0.0
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        sink.answer = self._take

    def add(self, number: int) -> None:
        """Configure a platform."""
        path, secret = f"/{number}", self._new_secret()
        self.valid[path] = {secret}
        credentials = {"url": self.sink.url(path), "secret": secret}
        body = {"platform": "webhook", "name": f"p{number}", "credentials": credentials}
        made = self.client.ask("POST", "projects/bench/platforms", body)
        assert made.status == 201, made
        self.secret[made.body["id"]] = secret
        self.ids.append(made.body["id"])

    async def fill(self, database: Database, ring: Keyring) -> None:
        """Many at once, as `add` would leave them."""
        now, rows = datetime.now(UTC), list[dict[str, Any]]()
        for number in range(PLATFORMS):
            platform_id, secret = new_id(), self._new_secret()
            self.valid[f"/{number}"] = {secret}
            self.secret[platform_id] = secret
            self.ids.append(platform_id)
            credentials = json.dumps({"url": self.sink.url(f"/{number}"), "secret": secret}).encode()
            row = {"id": platform_id, "project_id": "bench", "platform": "webhook", "name": f"p{number}"}
            row |= {"credentials_encrypted": ring.encrypt(credentials, context=platform_id)}
            row |= {"webhook_token": new_id(), "created_at": now, "updated_at": now}
            rows.append(row | {"is_active": True, "test_mode": False})
        async with database.write() as connection:
            await connection.execute(insert(project_platforms), rows)

    async def credentials(self, database: Database, ring: Keyring) -> dict[str, str]:
        """The secret of each platform, as these keys open them."""
        query = select(project_platforms.c.id, project_platforms.c.credentials_encrypted)
        async with database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {id_: json.loads(ring.decrypt(token, context=id_))["secret"] for id_, token in rows}

    def with_database(self, work: Callable[[Database, Keyring], Coroutine[Any, Any, Result]]) -> Result:
        """Look behind it, with the key that encrypts now and no other."""
        kept = json.loads((self.api.data_dir / "secrets.json").read_text())
        ring = Keyring(bytes.fromhex(kept["encryptionKey"]))
        sqlite = f"sqlite:///{self.api.data_dir / 'msgcore.db'}"

        async def run() -> Result:
            database = Database.open(self.api.environment.get("MSGCORE_DATABASE_URL", sqlite))
            try:
                return await work(database, ring)
            finally:
                await database.close()

        return asyncio.run(run())

    def left(self, key: str) -> int:
        """How many rows are under a key."""
        return rows_by_key(self.with_database(lambda database, _: key_uses(database))).get(key, 0)

    def send(self, platform_id: str, number: str) -> None:
        target = {"platformId": platform_id, "type": "user", "id": "ann"}
        began = time.monotonic()
        sent = self.client.ask(
            "POST", "projects/bench/messages/send", {"targets": [target], "content": {"text": f"m-{number}"}}
        )
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert sent.status == 201, sent
        self.accepted.add(f"m-{number}")

    def change(self, platform_id: str) -> None:
        """Give a platform a new secret; its address is sent back masked, as it was shown."""
        shown = self.client.ask("GET", f"projects/bench/platforms/{platform_id}").body
        secret = self._new_secret()
        self.valid[f"/{shown['name'][1:]}"].add(secret)
        body = {"credentials": {"url": "*****", "secret": secret}}
        changed = self.client.ask("PATCH", f"projects/bench/platforms/{platform_id}", body)
        assert changed.status == 200, changed
        self.secret[platform_id] = secret
        self.changes += 1

    def traffic(self) -> list[threading.Thread]:
        """Messages to anyone, changed credentials, and new platforms, until `stop`."""
        jobs: list[Callable[[int], None]] = [
            lambda number: self.send(self.rng.choice(self.ids), f"a{number}"),
            lambda number: self.send(self.rng.choice(self.ids), f"b{number}"),
            lambda _: self.change(self.rng.choice(self.ids)),
            lambda number: self.add(PLATFORMS + number),
        ]
        threads = [threading.Thread(target=self._repeat, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        return threads

    def wait_until_idle(self) -> dict[str, int]:
        deadline = time.monotonic() + PATIENCE
        while (found := self.api.metrics(self.key))["total"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def _repeat(self, job: Callable[[int], None]) -> None:
        number = 0
        try:
            while not self.stop.is_set():
                job(number)
                number += 1
                self.stop.wait(0.01)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self.errors.append(error)

    def _new_secret(self) -> str:
        return "whsec_" + base64.b64encode(self.rng.randbytes(24)).decode()

    def _take(self, posted: Posted) -> int:
        for secret in list(self.valid[posted.path]):
            try:
                self.arrived.add(posted.verify_standard(secret)["content"]["text"])
            except WebhookVerificationError:
                continue
            return 200
        self.forged += 1
        return 500


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        sink = stack.enter_context(WebhookSink())
        if request.param == "sqlite":
            shop = Shop(stack.enter_context(GatewayProcess(data_dir=tmp_path)), [], sink)
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = server.create_database("key_rotation")
            GatewayProcess(data_dir=tmp_path, database_url=url).start().kill()  # migrates
            worker = stack.enter_context(GatewayProcess("worker", data_dir=tmp_path, database_url=url))
            api = stack.enter_context(GatewayProcess("api", data_dir=tmp_path, database_url=url))
            shop = Shop(api, [worker], sink)
        shop.with_database(shop.fill)
        yield shop


def keys(shop: Shop, *arguments: str) -> list[dict[str, Any]]:
    """What a command of keys prints with --json."""
    done = run(["keys", *arguments, "--json"], shop.api.environment)
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def forget_the_grace(tmp_path: Path) -> None:
    """As if the key had been retired yesterday."""
    file = tmp_path / "secrets.json"
    kept = json.loads(file.read_text())
    for each in kept["retiredKeys"]:
        each["retiredAt"] = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    file.write_text(json.dumps(kept))


def test_no_delivery_fails_and_nothing_is_left(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (before,) = {use["key"] for use in keys(shop, "status")}
    threads = shop.traffic()
    rate = ("--rate", str(RATE))
    log = tmp_path / "rotate.log"
    log.touch()
    killed = fork(["keys", "rotate", "--new", *rate], shop.api.environment, log)
    deadline = time.monotonic() + PATIENCE
    while shop.left(before) > PLATFORMS * 2 // 3:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    killed.send_signal(9)
    assert killed.wait(60) != 0, "it had ended already"
    left = shop.left(before)
    assert left > 0
    began = time.monotonic()
    (rotated,) = keys(shop, "rotate", "--rate", str(10 * RATE))
    took = time.monotonic() - began
    assert rotated["remaining"] == 0
    assert rotated["key"] != before
    shop.stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert shop.errors == []
    metrics = shop.wait_until_idle()
    uses = keys(shop, "status")
    with capsys.disabled():
        print(
            f"\n{PLATFORMS} platforms, seed {SEED}: killed with {left} rows left, the rest in {took:.1f} s "
            f"(at most {10 * RATE} rows/s); meanwhile {len(shop.accepted)} messages accepted, {len(shop.accepted - shop.arrived)} "
            f"missing, {metrics['failed']} failed, {shop.forged} with a wrong signature, {shop.changes} changed "
            f"credentials, {len(shop.ids) - PLATFORMS} new platforms; slowest answer {shop.slowest:.2f} s"
        )
    assert shop.accepted <= shop.arrived
    assert (metrics["failed"], shop.forged) == (0, 0)
    assert {use["key"] for use in uses if use["rows"]} == {rotated["key"]}
    assert shop.with_database(shop.credentials) == shop.secret, "a change was lost"

    refused = run(["keys", "rotate", "--prune"], shop.api.environment)
    assert (refused.returncode, "was retired less than 60 s ago" in refused.stderr) == (1, True), refused
    forget_the_grace(tmp_path)
    (pruned,) = keys(shop, "rotate", "--prune")
    assert pruned == {"key": rotated["key"], "count": 0, "remaining": 0, "removed": [before]}
    for process in (shop.api, *shop.others):
        process.kill()
        process.start()
    for number, platform_id in enumerate(shop.rng.sample(shop.ids, 20)):
        shop.send(platform_id, f"c{number}")
    assert shop.wait_until_idle()["failed"] == 0
    assert shop.accepted <= shop.arrived
