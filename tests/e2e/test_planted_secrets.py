"""Secrets are planted wherever a run takes them; afterwards neither a log line nor the database shows one."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import AuthResult

from msgcore.core.scopes import ApiScope
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess, free_port
from servers.patience import PATIENCE

ALL_SCOPES = [scope.value for scope in ApiScope]
PASSWORD = "Planted" + secrets.token_hex(8) + "1"
WRONG_PASSWORD = "Wrong" + secrets.token_hex(8) + "1"
SMTP_PASSWORD = "smtp-" + secrets.token_hex(12)
WEBHOOK_SECRET = "whsec_" + secrets.token_urlsafe(32).replace("-", "A").replace("_", "B") + "="
EVENT_SECRET = "whsec_" + secrets.token_hex(32)
WRONG_EVENT_SECRET = "whsec_" + secrets.token_hex(8)
JWT_SECRET = secrets.token_hex(32)
ENCRYPTION_KEY = secrets.token_hex(32)


@pytest.fixture
def refusing_smtp_port() -> Iterator[int]:
    """A mail server that takes no login."""

    def refuse(*_args: Any) -> AuthResult:
        return AuthResult(success=False, handled=False)

    controller = Controller(
        Sink(), hostname="127.0.0.1", port=free_port(), authenticator=refuse, auth_require_tls=False
    )
    controller.start()
    yield controller.port
    controller.stop()


def send(key: ApiClient, platform_id: str, to: str, **content: Any) -> None:
    body = {"targets": [{"platformId": platform_id, "type": "user", "id": to}], "content": {"text": "hi", **content}}
    assert key.ask("POST", "projects/shop/messages/send", body).status == 201


def configure(key: ApiClient, platform: str, name: str, credentials: dict[str, Any]) -> str:
    made = key.ask("POST", "projects/shop/platforms", {"platform": platform, "name": name, "credentials": credentials})
    assert made.status == 201, made
    shown = key.ask("GET", f"projects/shop/platforms/{made.body['id']}")
    for secret in (SMTP_PASSWORD, WEBHOOK_SECRET):
        assert secret not in str(made.body) + str(shown.body)
    return str(made.body["id"])


def subscribe(key: ApiClient) -> str:
    """Make a webhook with a secret, and rotate that to one that was made; the latter."""
    asked = {"name": "hook", "url": "https://example.com/hook", "events": ["*"]}
    assert key.ask("POST", "projects/shop/webhooks", asked | {"secret": WRONG_EVENT_SECRET}).status == 400
    webhook_id = key.ask("POST", "projects/shop/webhooks", asked | {"secret": EVENT_SECRET}).body["id"]
    rotated = key.ask("POST", f"projects/shop/webhooks/{webhook_id}/rotate-secret")
    assert rotated.status == 200
    return str(rotated.body["secret"])


def wait_for_log(path: Path, *words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(word in path.read_text(errors="replace") for word in words):
        assert time.monotonic() < deadline, path.read_text(errors="replace")[-3000:]
        time.sleep(0.05)


def test_nothing_planted_is_logged_or_stored_in_the_clear(tmp_path: Path, refusing_smtp_port: int) -> None:
    settings = {
        "MSGCORE_LOG_LEVEL": "debug",
        "MSGCORE_JWT_SECRET": JWT_SECRET,
        "MSGCORE_ENCRYPTION_KEY": ENCRYPTION_KEY,
    }
    with GatewayProcess(data_dir=tmp_path, **settings) as gateway:
        nobody = ApiClient(gateway.url, {})
        login = {"email": "ann@example.com", "password": PASSWORD}
        token = nobody.ask("POST", "auth/signup", login).body["accessToken"]
        admin = nobody.as_user(token)
        assert nobody.ask("POST", "auth/login", login | {"password": WRONG_PASSWORD}).status == 401
        assert nobody.ask("POST", "auth/login", b'{"password": "' + PASSWORD.encode() + b'", "email": 5}').status == 400
        forged = token[:-4] + "AAAA"
        assert nobody.as_user(forged).ask("GET", "auth/whoami").status == 401
        assert admin.ask("POST", "projects", {"id": "shop", "name": "Shop"}).status == 201
        api_key = admin.ask("POST", "projects/shop/keys", {"name": "k", "scopes": ALL_SCOPES}).body["key"]
        key = nobody.as_key(api_key)
        assert key.ask("GET", f"projects/{api_key}/keys").status == 404  # a key in a path, by mistake

        login_refused = {"smtpHost": "127.0.0.1", "smtpPort": refusing_smtp_port, "fromEmail": "shop@example.com"}
        login_refused |= {"smtpUser": "shop", "smtpPassword": SMTP_PASSWORD}
        mail = configure(key, "email", "mail", login_refused)
        nowhere = configure(key, "email", "nowhere", login_refused | {"smtpPort": free_port()})
        hook = {"url": f"http://127.0.0.1:{free_port()}/hook", "secret": WEBHOOK_SECRET}
        webhook = configure(key, "webhook", "hook", hook)
        made_secret = subscribe(key)
        send(key, mail, "bob@example.com", subject="s")
        send(key, nowhere, "bob@example.com", subject="s")
        send(key, webhook, "bob")
        log = tmp_path / "server.log"
        wait_for_log(log, "smtp_login_refused", "smtp_connection", "connection_failed", "platform_paused")
        gateway.kill(signal.SIGTERM)

    planted = [
        PASSWORD,
        WRONG_PASSWORD,
        SMTP_PASSWORD,
        WEBHOOK_SECRET,
        EVENT_SECRET,
        WRONG_EVENT_SECRET,
        made_secret,
        JWT_SECRET,
        ENCRYPTION_KEY,
        token,
        forged,
        api_key,
    ]
    kept = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert kept["server.log"].count(b"\n") > 10
    assert b"smtp_login_refused" in kept["msgcore.db"], "what was stored is not in this file"
    for name, content in kept.items():
        for secret in planted:
            assert secret.encode() not in content, f"{secret[:6]}... stands in {name}"
