"""A stranger's first steps against the running program, by HTTP alone."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import sqlite3
import time
import urllib.error
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from servers.gateway import GatewayProcess, free_port
from servers.patience import PATIENCE


class Postbox:
    """An independent SMTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.port = free_port()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        self.messages.append(parsed)
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


@pytest.fixture
def postbox() -> Any:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=box.port, data_size_limit=64 * 1024 * 1024)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def gateway(request: pytest.FixtureRequest) -> Any:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with GatewayProcess(database_url=url) as running:
        yield running


def until(condition: Any, seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def status(gateway: GatewayProcess, key: str, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = gateway.call("GET", f"/api/v1/projects/bench/messages/status/{job_id}", x_api_key=key)
    return found


def finished(gateway: GatewayProcess, key: str, job_id: str) -> dict[str, Any]:
    return until(lambda: (s := status(gateway, key, job_id))["status"] in {"completed", "failed"} and s)


def test_a_mail_arrives_intact(gateway: GatewayProcess, postbox: Postbox) -> None:
    key = gateway.set_up()
    platform_id = gateway.add_platform(
        key, "email", {"smtpHost": "127.0.0.1", "smtpPort": postbox.port, "fromEmail": "shop@example.com"}
    )
    data = os.urandom(5 * 1024 * 1024)
    sent = gateway.call(
        "POST",
        "/api/v1/projects/bench/messages/send",
        {
            "targets": [{"platformId": platform_id, "type": "user", "id": "ann@example.com"}],
            "content": {
                "subject": "Grüße, 世界 🎉",
                "text": "Zażółć gęślą jaźń",
                "html": "<p>Zażółć <b>gęślą</b> jaźń</p>",
                "attachments": [
                    {"data": base64.b64encode(data).decode(), "filename": "résumé.pdf", "mimeType": "application/pdf"}
                ],
            },
        },
        x_api_key=key,
    )
    assert sent["success"] is True
    job = finished(gateway, key, sent["jobId"])
    assert (job["status"], job["progress"], job["delivery"]["overallStatus"]) == ("completed", 100, "completed")
    (mail,) = postbox.messages
    assert mail["Subject"] == "Grüße, 世界 🎉"
    assert mail["To"] == "ann@example.com"
    assert mail["Message-ID"] == job["delivery"]["results"][0]["providerMessageId"]
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert plain.get_content().strip() == "Zażółć gęślą jaźń"
    assert html is not None
    assert "<b>gęślą</b>" in html.get_content()
    (attachment,) = mail.iter_attachments()
    assert attachment.get_filename() == "résumé.pdf"
    assert hashlib.sha256(attachment.get_payload(decode=True)).digest() == hashlib.sha256(data).digest()


def test_the_same_idempotency_key_sends_once(gateway: GatewayProcess) -> None:
    key = gateway.set_up()
    platform_id = gateway.add_platform(key, "sandbox", {})

    def send(text: str) -> dict[str, Any]:
        body = {"targets": [{"platformId": platform_id, "type": "user", "id": "ann"}], "content": {"text": text}}
        found: dict[str, Any] = gateway.call(
            "POST", "/api/v1/projects/bench/messages/send", body, x_api_key=key, Idempotency_Key="order-1"
        )
        return found

    assert send("one")["jobId"] == send("one")["jobId"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        send("two")
    assert refused.value.code == 422


def test_failures_are_told_and_can_be_retried(gateway: GatewayProcess) -> None:
    key = gateway.set_up()
    platform_id = gateway.add_platform(key, "sandbox", {})
    targets = [
        {"platformId": platform_id, "type": "user", "id": name}
        for name in ("fail-permanent:ann", "bob", "fail-times-1")
    ]
    body = {"targets": targets, "content": {"text": "hi"}}
    sent = gateway.call("POST", "/api/v1/projects/bench/messages/send", body, x_api_key=key)
    job = until(lambda: (s := status(gateway, key, sent["jobId"]))["progress"] == 100 and s)
    assert job["delivery"]["overallStatus"] == "partial"
    assert job["delivery"]["summary"] == {"totalTargets": 3, "successful": 2, "failed": 1, "pending": 0}
    (error,) = job["delivery"]["errors"]
    assert error["target"] == "user:fail-permanent:ann"
    dead = gateway.call("GET", "/api/v1/projects/bench/dead-letters", x_api_key=key)["deadLetters"]
    assert [letter["jobId"] for letter in dead] == [sent["jobId"]]
    detail = gateway.call("GET", f"/api/v1/projects/bench/dead-letters/{dead[0]['id']}", x_api_key=key)
    assert [entry["outcome"] for entry in detail["timeline"]] == ["failed"]
    retried = gateway.call("POST", f"/api/v1/projects/bench/messages/retry/{sent['jobId']}", x_api_key=key)
    assert (retried["success"], retried["requeued"]) == (True, 1)
    until(
        lambda: (
            len(gateway.call("GET", f"/api/v1/projects/bench/dead-letters/{dead[0]['id']}", x_api_key=key)["timeline"])
            == 2
            if gateway.metrics(key)["failed"]
            else False
        )
    )


def test_a_graceful_stop_ends_with_zero(gateway: GatewayProcess) -> None:
    assert gateway.kill(signal.SIGTERM) == 0


class TestClearErrorsAtStart:
    """One line on standard error, an exit status that is not 0, and nothing damaged."""

    def fails_with(self, gateway: GatewayProcess, *words: str) -> None:
        gateway.log.write_text("")
        with pytest.raises(RuntimeError) as failed:
            gateway.start()
        assert gateway.process is not None
        assert gateway.process.poll() not in {0, None}
        lines = [line for line in gateway.tail().splitlines() if line.strip()]
        assert len(lines) == 1, failed.value
        for word in words:
            assert word in lines[0]

    @pytest.fixture
    def stopped(self, tmp_path: Path) -> Any:
        """A gateway that ran once and was stopped."""
        with GatewayProcess(data_dir=tmp_path) as gateway:
            gateway.set_up()
            gateway.kill(signal.SIGTERM)
            yield gateway

    def test_port_in_use(self, stopped: GatewayProcess) -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", stopped.port))
            other.listen()
            self.fails_with(stopped, "MSGCORE_PORT", str(stopped.port), "in use")
        stopped.start()

    def test_wrong_encryption_key(self, stopped: GatewayProcess) -> None:
        stopped.environment["MSGCORE_ENCRYPTION_KEY"] = "ab" * 32
        self.fails_with(stopped, "MSGCORE_ENCRYPTION_KEY")
        del stopped.environment["MSGCORE_ENCRYPTION_KEY"]
        stopped.start()

    def test_database_of_a_newer_version(self, stopped: GatewayProcess) -> None:
        path = stopped.data_dir / "msgcore.db"
        with sqlite3.connect(path) as connection:
            (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        self.fails_with(stopped, "newer")
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        stopped.start()

    def test_data_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        gateway = GatewayProcess(data_dir=tmp_path)
        gateway.environment["MSGCORE_DATA_DIR"] = str(blocked / "data")
        self.fails_with(gateway, "MSGCORE_DATA_DIR")

    @pytest.mark.parametrize(
        ("name", "value"), [("MSGCORE_PORT", "http"), ("PORT", "99999999"), ("MSGCORE_EGRESS_ALLOW", "10.0.0.0/99")]
    )
    def test_a_bad_setting_is_named(self, tmp_path: Path, name: str, value: str) -> None:
        gateway = GatewayProcess(data_dir=tmp_path)
        if name == "PORT":
            del gateway.environment["MSGCORE_PORT"]
        gateway.environment[name] = value
        self.fails_with(gateway, name)

    def test_a_second_worker_on_the_same_database(self, stopped: GatewayProcess) -> None:
        stopped.start()
        with pytest.raises(RuntimeError, match="MSGCORE_DATABASE_URL"):
            GatewayProcess(data_dir=stopped.data_dir).start()
