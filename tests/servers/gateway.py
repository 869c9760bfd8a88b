"""A throw-away gateway for end-to-end tests, fault tests and benchmarks: started, signed up to, stopped by its pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from servers.patience import PATIENCE
from servers.processes import UNMEASURED, Process, Start, execute

PASSWORD = "Benchmark1"


def free_port() -> int:
    """A port of the loopback address that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class GatewayProcess:
    """One `msgcore` process on loopback with a data directory of its own."""

    start_process: ClassVar[Start] = staticmethod(execute)
    """How to start it; benchmarks do it as users do, tests fork."""

    def __init__(
        self,
        command: str = "serve",
        *,
        data_dir: Path | None = None,
        database_url: str | None = None,
        port: int = 0,
        **settings: str,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="msgcore-") if data_dir is None else None
        self.data_dir = data_dir or Path(self._temporary.name if self._temporary else "")
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = command
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MSGCORE_")} | {
            **UNMEASURED,
            "MSGCORE_PORT": str(self.port),
            "MSGCORE_DATA_DIR": str(self.data_dir),
            "MSGCORE_EGRESS_ALLOW": "127.0.0.0/8",
            "MSGCORE_LOG_LEVEL": "warning",
            **({"MSGCORE_DATABASE_URL": database_url} if database_url else {}),
            **settings,
        }
        self.log = self.data_dir / "server.log"
        self.log.touch()
        self.process: Process | None = None

    def start(self, seconds: float = PATIENCE) -> GatewayProcess:
        """Start and wait until it answers."""
        self.process = self.start_process([self._command], self.environment, self.log)
        if self._command == "worker":
            return self
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (status := self.process.poll()) is not None:
                raise RuntimeError(f"msgcore {self._command} ended with {status}: {self.tail()}")
            try:
                urllib.request.urlopen(f"{self.url}/api/v1/health", timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError(f"msgcore {self._command} did not come up: {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> int:
        """End it by a signal and wait; the exit status."""
        assert self.process is not None
        self.process.send_signal(sig)
        return self.process.wait(60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill(signal.SIGTERM)
        if self._temporary is not None:
            self._temporary.cleanup()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """One API call; the decoded answer. Raises HTTPError for an error status."""
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        if body is not None:
            request.add_header("content-type", "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")

    def set_up(self, project: str = "bench") -> str:
        """Sign up, make a project and a key that may do everything with messages; the key."""
        token = self.call(
            "POST", "/api/v1/auth/signup", {"email": "bench@example.com", "password": PASSWORD, "name": "Bench"}
        )["accessToken"]
        bearer = f"Bearer {token}"
        self.call("POST", "/api/v1/projects", {"name": project, "id": project}, authorization=bearer)
        scopes = ["messages:write", "messages:read", "platforms:read", "platforms:write", "projects:read"]
        made = self.call(
            "POST", f"/api/v1/projects/{project}/keys", {"name": "bench", "scopes": scopes}, authorization=bearer
        )
        return str(made["key"])

    def add_platform(self, key: str, platform: str, credentials: dict[str, Any], project: str = "bench") -> str:
        """Configure a platform; its id."""
        body = {"platform": platform, "name": platform[:20], "credentials": credentials}
        return str(self.call("POST", f"/api/v1/projects/{project}/platforms", body, x_api_key=key)["id"])

    def metrics(self, key: str, project: str = "bench") -> dict[str, int]:
        """The project's queue metrics."""
        found: dict[str, int] = self.call("GET", f"/api/v1/projects/{project}/messages/queue/metrics", x_api_key=key)
        return found
