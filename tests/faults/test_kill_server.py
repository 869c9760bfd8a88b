"""kill -9 of the whole gateway, again and again, while messages are accepted and sent.

Promise: whatever was answered with 201 arrives at the SMTP server. A message may arrive twice only
when an attempt was under way at a kill; each such attempt is in the ledger as `uncertain`.

`make test` runs a short form; `make test-faults` the long one (MSGCORE_FAULT_KILLS=20,
MSGCORE_FAULT_MESSAGES=2000). The seed is printed; MSGCORE_FAULT_SEED repeats a run's choices.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from servers.gateway import GatewayProcess, free_port
from servers.patience import PATIENCE

KILLS = int(os.environ.get("MSGCORE_FAULT_KILLS", "3"))
MESSAGES = int(os.environ.get("MSGCORE_FAULT_MESSAGES", "300"))
SEED = int(os.environ.get("MSGCORE_FAULT_SEED", str(random.SystemRandom().randrange(10**9))))
SENDERS = 4


class Mailbox:
    """What an independent SMTP server received, by subject."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.ids: dict[str, set[str]] = {}

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        message = message_from_bytes(content if isinstance(content, bytes) else (content or "").encode())
        self.received[message["Subject"]] += 1
        self.ids.setdefault(message["Subject"], set()).add(message["Message-ID"])
        return "250 OK"


class Senders:
    """Clients that send numbered messages and remember which of them were answered with 201."""

    def __init__(self, gateway: GatewayProcess, key: str, platform_id: str) -> None:
        self._gateway = gateway
        self._headers = {"content-type": "application/json", "x-api-key": key}
        self._platform_id = platform_id
        self._numbers = iter(range(MESSAGES))
        self._turn = threading.Lock()
        self.accepted: set[str] = set()
        self.lost_answers = 0
        self.threads = [threading.Thread(target=self._send_all, daemon=True) for _ in range(SENDERS)]

    def _send_all(self) -> None:
        while True:
            with self._turn:
                number = next(self._numbers, None)
            if number is None:
                return
            self._send(f"m-{number}")
            time.sleep(0.002)  # spreads the sending over the kills; nothing depends on it

    def _send(self, subject: str) -> None:
        body = {
            "targets": [{"platformId": self._platform_id, "type": "user", "id": "ann@example.com"}],
            "content": {"subject": subject, "text": "hello"},
        }
        while True:
            request = urllib.request.Request(
                f"{self._gateway.url}/api/v1/projects/bench/messages/send",
                data=json.dumps(body).encode(),
                headers=self._headers,
                method="POST",
            )
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    assert answer.status == 201
                    self.accepted.add(subject)
                    return
            except urllib.error.HTTPError as error:
                raise AssertionError(error.read()) from error
            except OSError as error:
                if "refused" not in str(error):
                    self.lost_answers += 1
                    return  # nobody knows whether it was accepted: it may or may not arrive
                time.sleep(0.02)


def wait_until_idle(gateway: GatewayProcess, key: str, seconds: float = PATIENCE) -> dict[str, int]:
    deadline = time.monotonic() + seconds
    while True:
        metrics = gateway.metrics(key)
        if not metrics["total"] or time.monotonic() > deadline:
            return metrics
        time.sleep(0.1)


def uncertain_attempts(data_dir: Path) -> int:
    with sqlite3.connect(data_dir / "msgcore.db") as connection:
        return int(connection.execute("SELECT count(*) FROM attempts WHERE reached = 'maybe'").fetchone()[0])


@pytest.fixture
def mailbox() -> Any:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield box, controller.port
    controller.stop()


def test_what_was_answered_arrives(mailbox: tuple[Mailbox, int], capsys: pytest.CaptureFixture[str]) -> None:
    box, smtp_port = mailbox
    rng = random.Random(SEED)
    with GatewayProcess() as gateway:
        key = gateway.set_up()
        platform_id = gateway.add_platform(
            key, "email", {"smtpHost": "127.0.0.1", "smtpPort": smtp_port, "fromEmail": "shop@example.com"}
        )
        senders = Senders(gateway, key, platform_id)
        for thread in senders.threads:
            thread.start()
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.05, 0.6))  # a random moment is the very point
            gateway.kill()
            gateway.start()
        for thread in senders.threads:
            thread.join(120)
        metrics = wait_until_idle(gateway, key)
        uncertain = uncertain_attempts(gateway.data_dir)
    missing = senders.accepted - set(box.received)
    duplicates = sum(number - 1 for number in box.received.values())
    with capsys.disabled():
        print(
            f"\n{KILLS} kills, seed {SEED}: {len(senders.accepted)} answered with 201, "
            f"{senders.lost_answers} answers lost, {len(missing)} missing, "
            f"{duplicates} duplicates, {uncertain} uncertain attempts"
        )
    assert not missing
    assert metrics["failed"] == 0
    assert metrics["total"] == 0
    assert duplicates <= uncertain, "a duplicate that no interrupted attempt explains"
    assert all(len(ids) == 1 for ids in box.ids.values()), "a redelivery has another Message-ID"
