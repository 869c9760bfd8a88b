"""API calls whose errors are answers like any other."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from servers.patience import PATIENCE


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers (lower case) and the decoded body."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class ApiClient:
    """A caller of a gateway: headers that each of its requests carries."""

    url: str
    headers: dict[str, str]

    def as_key(self, key: str) -> ApiClient:
        """The same gateway, called with an API key."""
        return ApiClient(self.url, {"X-API-Key": key})

    def as_user(self, token: str) -> ApiClient:
        """The same gateway, called by somebody who signed in."""
        return ApiClient(self.url, {"Authorization": f"Bearer {token}"})

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request; `body` is bytes, or anything that becomes JSON. A path without a slash is below /api/v1."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        try:
            connection.request(method, path if path.startswith("/") else f"/api/v1/{path}", data, self.headers | sent)
            answer = connection.getresponse()
            text = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, json.loads(text) if text else None)
        finally:
            connection.close()
