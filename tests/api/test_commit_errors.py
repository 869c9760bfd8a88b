"""An error around the commit of a message is answered once, and the message is not accepted again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from msgcore.app import Gateway
from msgcore.config import Settings
from msgcore.core.deliveries import Ticket
from msgcore.store.tables import messages


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    opened = await Gateway.open(Settings(data_dir=tmp_path))
    await opened.start()
    yield opened
    await opened.stop()


async def ask(gateway: Gateway, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """One POST as an ASGI server makes it."""
    data = json.dumps(body).encode()
    given = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": f"/api/v1/{path}", "raw_path": f"/api/v1/{path}".encode(), "root_path": "", "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {}, "extensions": {},
    }  # fmt: skip
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    assert gateway.asgi is not None
    await gateway.asgi(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


async def test_what_was_committed_is_not_accepted_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"email": "ann@example.com", "password": "Passw0rd1"}
    token = (await ask(gateway, "auth/signup", login))[1]["accessToken"]
    bearer = {"authorization": f"Bearer {token}"}
    await ask(gateway, "projects", {"id": "shop", "name": "Shop"}, **bearer)
    scopes = ["messages:write", "platforms:write", "platforms:read"]
    key = (await ask(gateway, "projects/shop/keys", {"name": "k", "scopes": scopes}, **bearer))[1]["key"]
    sandbox = {"platform": "sandbox", "name": "box", "credentials": {}}
    platform_id = (await ask(gateway, "projects/shop/platforms", sandbox, x_api_key=key))[1]["id"]
    body = {"targets": [{"platformId": platform_id, "type": "user", "id": "ann"}], "content": {"text": "hi"}}

    async def fail(_tickets: Sequence[Ticket]) -> None:
        raise RuntimeError("after the commit")

    monkeypatch.setattr(gateway._scheduling.accept_log, "_on_committed", fail)
    status, answer = await ask(gateway, "projects/shop/messages/send", body, x_api_key=key)
    assert (status, answer["error"]) == (500, "Internal Server Error")
    assert "after the commit" not in json.dumps(answer)
    async with gateway.database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(messages)) == 1
