"""Where benchmarks run: databases, Redis, gateways, and the other ends of this folder."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from msgcore.config import known_variables
from servers.gateway import GatewayProcess, free_port
from servers.postgres import PostgresServer
from servers.valkey import ValkeyServer

ROOT = Path(__file__).parent.parent
RATES = [name for name in known_variables() if name.startswith("MSGCORE_RATE_") and "_LIMIT_" not in name]
UNREACHED = dict.fromkeys(RATES, "1000000000")
"""Requests are counted, and none is refused."""


def benchmark_parser(name: str, documentation: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's text."""
    return argparse.ArgumentParser(
        prog=f"python -m bench {name}",
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """The options that `Place` is made of."""
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite", help="(sqlite)")
    parser.add_argument("--redis", metavar="URL|local", help="schedule in this Redis, or in one of the run's own")


@dataclass(frozen=True)
class Place:
    """What the gateways of one run share: a data directory, a database, and a Redis if one is wanted."""

    data_dir: Path
    database_url: str | None
    redis_url: str | None

    @classmethod
    def of(cls, options: argparse.Namespace, stack: ExitStack) -> Place:
        """As the options say; ended and deleted with the stack."""
        return cls(
            data_dir=Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="msgcore-bench-"))),
            database_url=postgres_url(options.database, stack),
            redis_url=redis_url(options.redis, stack),
        )

    def gateway(self, command: str = "serve", **settings: str) -> GatewayProcess:
        """A `msgcore` process, not started yet."""
        process = GatewayProcess(command, data_dir=self.data_dir, database_url=self.database_url)
        process.environment |= UNREACHED | settings
        if self.redis_url is not None:
            process.environment["MSGCORE_REDIS_URL"] = self.redis_url
        return process

    @property
    def name(self) -> str:
        """For people."""
        return ("sqlite" if self.database_url is None else "postgresql") + (" + redis" if self.redis_url else "")

    @property
    def sql_url(self) -> str:
        """The database's URL, SQLite's too."""
        return self.database_url or f"sqlite:///{self.data_dir}/msgcore.db"


def wait_for(url: str) -> None:
    """Until something answers there."""
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def start_server(module: str, path: str, stack: ExitStack, *arguments: str, port: int = 0) -> str:
    """Run a server of this folder in a process of its own until it answers at `path`; its URL."""
    port = port or free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SystemExit(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}") from None
    process = subprocess.Popen([sys.executable, "-m", module, str(port), *arguments], cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    wait_for(f"http://127.0.0.1:{port}{path}")
    return f"http://127.0.0.1:{port}"


def postgres_url(database: str, stack: ExitStack) -> str | None:
    """The URL of an empty PostgreSQL database if one is wanted; None for SQLite in the data directory."""
    if database != "postgresql":
        return None
    return stack.enter_context(PostgresServer()).create_database("bench")


def redis_url(wanted: str | None, stack: ExitStack) -> str | None:
    """The URL of a Redis: as given, or of a Valkey of the run's own for `local`."""
    return stack.enter_context(ValkeyServer()).url if wanted == "local" else wanted
