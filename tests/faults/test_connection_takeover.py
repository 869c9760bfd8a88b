"""kill -9 of the worker that holds a mailbox's connection: another one takes it over, and every mail is an event once.

The time of each takeover is printed: 15 s is what is promised. `make test` runs a short form; `make test-faults` the
long one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from servers.dovecot import PASSWORD, DovecotServer
from servers.gateway import PASSWORD as OWN_PASSWORD
from servers.gateway import GatewayProcess, free_port
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from servers.valkey import ValkeyServer

KILLS = int(os.environ.get("MSGCORE_FAULT_TAKEOVERS", "1"))
USER = "shop"


class Place:
    """An API process and two workers, over one mailbox."""

    def __init__(self, api: GatewayProcess, workers: list[GatewayProcess], dovecot: DovecotServer) -> None:
        self.api, self.workers, self.dovecot = api, workers, dovecot
        self._heard: list[str] = []
        self._after = 0
        self.key = api.set_up()
        smtp = {"smtpHost": "127.0.0.1", "smtpPort": free_port(), "fromEmail": "shop@example.com"}
        mailbox = {"imapHost": "127.0.0.1", "imapPort": dovecot.port, "imapTls": "none", "imapUser": USER}
        api.add_platform(self.key, "email", smtp | mailbox | {"imapPassword": PASSWORD})

    def holder(self, *besides: GatewayProcess) -> GatewayProcess:
        """The worker that waits for mail, once one of these does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for worker in self.workers:
                if worker not in besides and self._is_connected(worker):
                    return worker
            assert time.monotonic() < deadline, [worker.tail() for worker in self.workers]
            time.sleep(0.02)

    def _is_connected(self, worker: GatewayProcess) -> bool:
        assert worker.process is not None
        found = psutil.Process(worker.process.pid).net_connections("tcp")
        return any(each.raddr and each.raddr.port == self.dovecot.port for each in found)

    def wait_until_up(self) -> None:
        """Until the account's log says that it is connected."""
        login = {"email": "bench@example.com", "password": OWN_PASSWORD}
        token = self.api.call("POST", "/api/v1/auth/login", login)["accessToken"]
        path = "/api/v1/projects/bench/platforms/logs?category=connection"
        deadline = time.monotonic() + PATIENCE
        while not self.api.call("GET", path, authorization=f"Bearer {token}")["logs"]:
            assert time.monotonic() < deadline, [worker.tail() for worker in self.workers]
            time.sleep(0.05)

    def deliver(self, *texts: str) -> None:
        mails = [f"From: ann@example.org\r\nMessage-ID: <{text}@x>\r\n\r\n{text}\r\n".encode() for text in texts]
        self.dovecot.deliver(USER, *mails)

    def wait_for(self, *texts: str) -> None:
        """Until these are the events, in this order."""
        deadline = time.monotonic() + PATIENCE
        while len(self._heard) < len(texts):
            path = f"/api/v1/projects/bench/events?after={self._after}&types=message.received&wait=1"
            page = self.api.call("GET", path, x_api_key=self.key)
            self._heard += [event["data"]["text"] for event in page["events"]]
            self._after = page["next"]
            assert time.monotonic() < deadline, (self._heard, [worker.tail() for worker in self.workers])
        assert self._heard == list(texts)


@pytest.fixture
def place(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Place]:
    with ExitStack() as stack:
        url = postgres_server.create_database("takeover")
        valkey, dovecot = stack.enter_context(ValkeyServer()), stack.enter_context(DovecotServer())
        settings = {"MSGCORE_REDIS_URL": valkey.url, "MSGCORE_SHUTDOWN_SECONDS": "0.5"}

        def begin(command: str) -> GatewayProcess:
            return stack.enter_context(GatewayProcess(command, data_dir=tmp_path, database_url=url, **settings))

        begin("serve").kill()  # migrates
        workers = [begin("worker") for _ in range(2)]
        yield Place(begin("api"), workers, dovecot)


def test_a_killed_holder_is_replaced_and_no_mail_is_lost_or_doubled(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.wait_until_up()
    texts = ["first"]
    place.deliver("first")
    place.wait_for("first")
    seconds: list[float] = []
    for number in range(KILLS):
        victim = place.holder()
        victim.kill()
        began = time.monotonic()
        place.deliver(f"meanwhile {number}a", f"meanwhile {number}b")
        place.holder(victim)
        seconds.append(time.monotonic() - began)
        place.deliver(f"after {number}")
        texts += [f"meanwhile {number}a", f"meanwhile {number}b", f"after {number}"]
        place.wait_for(*texts)
        victim.start()
    began = time.monotonic()
    stopped = place.holder()
    stopped.kill(15)
    place.holder(stopped)
    moved = time.monotonic() - began
    place.deliver("last")
    place.wait_for(*texts, "last")
    with capsys.disabled():
        shown = ", ".join(f"{each:.1f} s" for each in seconds)
        print(f"\n  connections taken over {shown} after kill -9, {moved:.1f} s with a stop in order")
