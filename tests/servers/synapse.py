"""A real homeserver for tests: Synapse, in a virtual environment of its own.

It brings another `multipart` than the one that MsgCore uses, so the two cannot share one.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import venv
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from servers.gateway import free_port
from servers.guarded import GuardedServer
from servers.patience import PATIENCE

LOCK = Path(__file__).parents[2] / "requirements-synapse.lock"
NAME = "example.org"
PASSWORD = "correct horse"
OFTEN = {"per_second": 1000, "burst_count": 1000}


class User:
    """A person with a client of their own."""

    def __init__(self, server: SynapseServer, id_: str, token: str) -> None:
        self.id = id_
        self.token = token
        self._server = server
        self._number = 0

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the Client-Server API; `path` goes on after /v3/."""
        return self._server.ask(method, f"/_matrix/client/v3/{path}", body, token=self.token)

    def write(self, room: str, content: Mapping[str, Any] | str, kind: str = "m.room.message") -> str:
        """Send an event; its id."""
        body = {"msgtype": "m.text", "body": content} if isinstance(content, str) else dict(content)
        self._number += 1
        path = f"rooms/{quote(room)}/send/{kind}/own{self._number}"
        return str(self.ask("PUT", path, body)["event_id"])

    def create(self, *invited: User, **more: Any) -> str:
        """Create a room; its id."""
        body = {"preset": "private_chat", "invite": [user.id for user in invited], **more}
        return str(self.ask("POST", "createRoom", body)["room_id"])

    def join(self, room: str) -> None:
        """Come into a room."""
        self.ask("POST", f"rooms/{quote(room)}/join", {})

    def events(self, room: str) -> list[dict[str, Any]]:
        """The last events of a room, in order."""
        return list(reversed(self.ask("GET", f"rooms/{quote(room)}/messages?dir=b&limit=100")["chunk"]))

    def event(self, room: str, id_: str) -> dict[str, Any]:
        """One event."""
        found: dict[str, Any] = self.ask("GET", f"rooms/{quote(room)}/event/{quote(id_)}")
        return found


class SynapseServer(GuardedServer):
    """A homeserver on loopback with nobody on it."""

    name = "synapse"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._users = 0
        self._secret = secrets.token_hex(16)

    def command(self) -> Sequence[str | Path]:
        """The server, with its settings."""
        self._configure()
        return [interpreter(), "-m", "synapse.app.homeserver", "--config-path", self.folder / "config"]

    def probe(self) -> object:
        """Which versions it speaks."""
        return self.ask("GET", "/_matrix/client/versions")

    def register(self, name: str, *, admin: bool = False) -> User:
        """A new user with this display name, logged in (shared-secret registration of Synapse's admin API)."""
        self._users += 1
        localpart = f"{name}{self._users}"
        path = "/_synapse/admin/v1/register"
        nonce = self.ask("GET", path)["nonce"]
        words = "\0".join((nonce, localpart, PASSWORD, "admin" if admin else "notadmin"))
        mac = hmac.new(self._secret.encode(), words.encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": localpart, "password": PASSWORD, "admin": admin, "mac": mac}
        made = self.ask("POST", path, {**body, "displayname": name.title()})
        return User(self, made["user_id"], made["access_token"])

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """The JSON that it answers. Raises HTTPError for what is no success."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def _configure(self) -> None:
        key = b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (self.folder / "key").write_text(f"ed25519 a_test {key}\n")
        resources = [{"names": ["client"], "compress": False}]
        listener = {"port": self.port, "bind_addresses": ["127.0.0.1"], "type": "http", "resources": resources}
        settings = {
            "server_name": NAME,
            "pid_file": f"{self.folder}/pid",
            "listeners": [listener],
            "database": {"name": "sqlite3", "args": {"database": f"{self.folder}/db"}},
            "media_store_path": f"{self.folder}/media",
            "signing_key_path": f"{self.folder}/key",
            "registration_shared_secret": self._secret,
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "bcrypt_rounds": 4,
            "max_upload_size": "300K",
            "caches": {"sync_response_cache_duration": "0s"},  # else who asks from the start sees what was
            **dict.fromkeys(("rc_message", "rc_login", "rc_room_creation"), OFTEN),
            "rc_joins": {"local": OFTEN},
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), OFTEN),
        }
        (self.folder / "config").write_text(json.dumps(settings))  # JSON is YAML too


# --- where it comes from


@cache
def interpreter() -> Path:
    """The Python of an environment that has Synapse as `requirements-synapse.lock` names it, made once."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    root = Path(tempfile.gettempdir()) / f"msgcore-synapse-{os.geteuid()}-{digest}"
    root.mkdir(mode=0o755, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{root} belongs to somebody else; delete it")
    python = root / "venv/bin/python"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes wait for the one that makes it
        if not (root / "done").exists():
            venv.create(root / "venv", clear=True)
            _pip("--python", str(python), "install", "--require-hashes", "--no-deps", "--requirement", str(LOCK))
            (root / "done").touch()
    return python


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Synapse could not be installed: {done.stderr[-2000:]}")
