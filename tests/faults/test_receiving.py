"""kill -9 of processes, and a database that goes away, while platforms post what happens on them.

Promise: whatever was answered with 2xx is stored exactly once, and a subscriber gets it, in order in each chat.
Platforms post again what was not answered, under the same id, as real ones do.

`make test` runs a short form; `make test-faults` the long one. The seed is printed; MSGCORE_FAULT_SEED repeats
a run's choices.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.postgres import PostgresServer

KILLS = int(os.environ.get("MSGCORE_FAULT_KILLS", "3"))
REQUESTS = int(os.environ.get("MSGCORE_FAULT_INBOUND", "400"))
AWAY_SECONDS = float(os.environ.get("MSGCORE_FAULT_AWAY_SECONDS", "1.5"))
SEED = int(os.environ.get("MSGCORE_FAULT_SEED", str(random.SystemRandom().randrange(10**9))))
CHATS = 8
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Chats:
    """People in chats: each chat's messages are posted one after the other, each until it is answered with 2xx."""

    def __init__(self, url: str, pause: float = 0.0) -> None:
        self._url = url
        self._pause = pause
        self.answered: defaultdict[str, list[str]] = defaultdict(list)
        self.again = 0
        self.threads = [threading.Thread(target=self._talk, args=(f"chat-{n}",), daemon=True) for n in range(CHATS)]
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a chat is not done"

    def _talk(self, chat: str) -> None:
        for number in range(REQUESTS // CHATS):
            text = f"{chat}/{number}"
            content = {"kind": "message", "id": text, "text": text}
            body = json.dumps({"chat": {"id": chat}, "author": {"id": "ann"}, "content": content}).encode()
            while not self._post(text, body):
                self.again += 1
                time.sleep(0.02)
            self.answered[chat].append(text)
            time.sleep(self._pause)

    def _post(self, id_: str, body: bytes) -> bool:
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": id_,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(SECRET).sign(id_, now, body.decode()),
        }
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return 200 <= answer.status < 300
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise AssertionError(error.read()) from error
            return False
        except OSError:
            return False


class Subscriber:
    """Follows the events page by page, from where it stood, however often the server goes away."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self._url = f"{gateway.url}/api/v1/projects/bench/events?types=message.received&wait=5"
        self._headers = {"x-api-key": key}
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self._after = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait_for(self, number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while sum(map(len, self.texts.values())) < number and time.monotonic() < deadline:
            time.sleep(0.05)
        self._done.set()
        self._thread.join(PATIENCE)

    def _follow(self) -> None:
        while not self._done.is_set():
            request = urllib.request.Request(f"{self._url}&after={self._after}", headers=self._headers)
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    page = json.load(answer)
            except OSError:  # what the server answers while its database is away as well
                time.sleep(0.05)
                continue
            for event in page["events"]:
                self.texts[event["data"]["chat_id"]].append(event["data"]["text"])
            self._after = page["next"]


def inbound_url(gateway: GatewayProcess, key: str) -> str:
    platform_id = gateway.add_platform(key, "webhook", {"url": "https://example.com/", "secret": SECRET})
    found = gateway.call("GET", f"/api/v1/projects/bench/platforms/{platform_id}", x_api_key=key)
    return gateway.url + "/api/v1" + found["webhookUrl"].partition("/api/v1")[2]


def check(gateway: GatewayProcess, key: str, chats: Chats, subscriber: Subscriber) -> None:
    """Everything once, and in order in each chat: in the store, and at the subscriber."""
    total = sum(map(len, chats.answered.values()))
    assert total == REQUESTS // CHATS * CHATS
    subscriber.wait_for(total)
    assert subscriber.texts == chats.answered
    stored: Counter[str] = Counter()
    offset = 0
    while page := messages(gateway, key, offset):
        stored.update(message["messageText"] for message in page)
        offset += len(page)
    assert stored == Counter(text for texts in chats.answered.values() for text in texts)


def messages(gateway: GatewayProcess, key: str, offset: int) -> list[dict[str, Any]]:
    path = f"/api/v1/projects/bench/messages?limit=100&offset={offset}"
    found: list[dict[str, Any]] = gateway.call("GET", path, x_api_key=key)["messages"]
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_answered_is_read_once_and_in_order(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    with ExitStack() as stack:
        if database == "sqlite":
            api = stack.enter_context(GatewayProcess(data_dir=tmp_path))
            processes = [api]
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = server.create_database("inbound_kills")
            stack.enter_context(GatewayProcess(data_dir=tmp_path, database_url=url)).kill()  # migrates
            api = stack.enter_context(GatewayProcess("api", data_dir=tmp_path, database_url=url))
            processes = [api, stack.enter_context(GatewayProcess("worker", data_dir=tmp_path, database_url=url))]
        key = api.set_up()
        chats, subscriber = Chats(inbound_url(api, key), pause=0.005), Subscriber(api, key)
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.05, 0.6))  # a random moment is the very point
            victim = rng.choice(processes)
            victim.kill()
            victim.start()
        chats.join()
        check(api, key, chats, subscriber)
    with capsys.disabled():
        print(f"\n  {database}: {KILLS} kills, {REQUESTS} requests, {chats.again} posted again, seed {SEED}")


def test_a_database_that_is_away_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PostgresServer() as server:
        url = server.create_database("inbound_away")
        with GatewayProcess(data_dir=tmp_path, database_url=url) as gateway:
            key = gateway.set_up()
            chats, subscriber = (
                Chats(inbound_url(gateway, key), pause=2 * AWAY_SECONDS * CHATS / REQUESTS),
                Subscriber(gateway, key),
            )
            deadline = time.monotonic() + PATIENCE
            while not all(chats.answered[f"chat-{n}"] for n in range(CHATS)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            server.stop()
            before = sum(map(len, chats.answered.values()))
            time.sleep(AWAY_SECONDS)  # how long it is away is the very point
            meanwhile = sum(map(len, chats.answered.values())) - before
            assert meanwhile > 0, "platforms were not answered while the database was away"
            gateway.kill()  # what lies on the disk outlives the process
            server.start()
            gateway.start()
            chats.join()
            check(gateway, key, chats, subscriber)
    with capsys.disabled():
        print(f"\n  away for {AWAY_SECONDS:g} s: {meanwhile} of {REQUESTS} answered meanwhile, {chats.again} again")
