"""A real ntfy server for tests: the machine's own, or the package of a newer Debian, unpacked and run without root."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from msgcore.platforms.base import Account
from msgcore.platforms.registry import PlatformRegistry
from servers.debian import suite_lists, unpack
from servers.deliveries import make_account
from servers.gateway import free_port
from servers.guarded import GuardedServer
from servers.patience import PATIENCE

USER, PASSWORD = "ann", "geheim"
TOKEN = "tk_a0b1c2d3e4f5g6h7i8j9k0l1m2n3o"
WRONG = "tk_wrongwrongwrongwrongwrongwro"
HASH = "$2a$10$WnHKWysTVanYdEIW2c1lJ.caKwI9KkotSCK8IjxujeZfx7oE75itq"
"""Of the password, by `ntfy user hash`."""
OLDEST = (2, 16)
"""From which on messages can be changed."""
SUITES = ("unstable", "testing")


class NtfyServer(GuardedServer):
    """A server on loopback. Everybody may use its topics, but for `private-*`, which are USER's, and `out-*`, which
    others may only write to.
    """

    name = "ntfy"

    def __init__(self, **settings: Any) -> None:
        """`settings` are those of server.yml, with underscores."""
        super().__init__()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = settings

    def command(self) -> Sequence[str | Path]:
        """The server, with its settings."""
        settings: dict[str, Any] = {
            "base-url": self.url,
            "listen-http": f"127.0.0.1:{self.port}",
            "cache-file": f"{self.folder}/cache.db",
            "attachment-cache-dir": f"{self.folder}/attachments",
            "auth-file": f"{self.folder}/user.db",
            "auth-users": [f"{USER}:{HASH}:user"],
            "auth-tokens": [f"{USER}:{TOKEN}"],
            "auth-access": [f"{USER}:private-*:rw", "everyone:private-*:deny", "everyone:out-*:write-only"],
            "visitor-request-limit-exempt-hosts": "127.0.0.1",
            "visitor-topic-creation-limit-burst": 10_000,
            "web-root": "disable",
            **{name.replace("_", "-"): value for name, value in self._settings.items()},
        }
        config = self.folder / "server.yml"
        config.write_text(json.dumps(settings))  # which is YAML
        return [program(), "serve", "--config", config]

    def probe(self) -> object:
        """Whether it is well."""
        return self.call("GET", "/v1/health")

    def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
        """What the server answers, as an app of somebody else's gets it."""
        asked = Request(f"{self.url}{path}", data=body or None, headers=dict(headers or {}), method=method)
        with urlopen(asked, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    def publish(self, topic: str, text: str, **fields: Any) -> Any:
        """Somebody else's message."""
        body = {"topic": topic, "message": text, **fields}
        return self.call("POST", "/", json.dumps(body).encode())

    def messages(self, topic: str) -> list[Any]:
        """What the server has of a topic."""
        with urlopen(self._login(f"/{topic}/json?poll=1"), timeout=PATIENCE) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def fetch(self, url: str) -> bytes:
        """A file."""
        with urlopen(url, timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def _login(self, path: str) -> Request:
        return Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {TOKEN}"})


def ntfy_account(url: str, **more: Any) -> Account:
    """An account at a server, with good credentials."""
    credentials = {"serverUrl": f"{url}/", **more}
    assert PlatformRegistry().check_credentials("ntfy", credentials) == []
    return make_account("ntfy", credentials)


def press(action: dict[str, Any]) -> None:
    """Press a button, as an app does it."""
    asked = Request(action["url"], data=action["body"].encode(), method=action["method"])
    with urlopen(asked, timeout=PATIENCE) as answer:
        assert answer.status == 200


# --- where it comes from


@cache
def program() -> Path:
    """The machine's ntfy, else an unpacked one. Raises RuntimeError where it cannot be got."""
    installed = shutil.which("ntfy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if installed and _version(Path(installed)) >= OLDEST:
        return Path(installed)
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"no ntfy of version 2.16 or newer found, and no {tool} to get it with")
    root = Path(f"/tmp/msgcore-ntfy-{os.geteuid()}")
    root.mkdir(mode=0o755, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{root} belongs to somebody else; delete it")
    found = root / "usr/bin/ntfy"
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes wait for the one that unpacks it
        for suite in SUITES:
            if _version(found) < OLDEST:
                _unpack(suite, root)
    if _version(found) < OLDEST:
        raise RuntimeError(f"neither of {SUITES} has a ntfy that runs here")
    return found


def _version(ntfy: Path) -> tuple[int, ...]:
    """The version of a program; nothing for one that is not there or does not run."""
    if not ntfy.exists():
        return ()
    done = subprocess.run([ntfy, "--help"], capture_output=True, text=True, check=False)
    match = re.search(r"VERSION:\s+(\d+)\.(\d+)", done.stdout)
    return () if match is None else (int(match[1]), int(match[2]))


def _unpack(suite: str, root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="msgcore-apt-") as folder:
        unpack(["ntfy"], suite_lists(Path(folder), suite), Path(folder), root)
