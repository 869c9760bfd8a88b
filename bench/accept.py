"""How fast messages are accepted: the real server over HTTP, beside a bare Litestar endpoint.

    python -m bench accept [--database sqlite|postgresql] [--requests 20000] [--process api|serve]

Prints requests/s, p50 and p99 of both, and the ratio. `--process api` measures accepting alone,
`serve` accepts and delivers (to the sandbox) at once. Or drive any server that speaks the API:

    python -m bench accept --url http://127.0.0.1:7890 --key msc_... --platform-id ID --project NAME
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench.http_load import LoadResult, load, request_bytes
from servers.gateway import GatewayProcess, free_port
from servers.postgres import PostgresServer

TEXT = "x" * 420


def message(platform_id: str, number: int) -> bytes:
    """A body of about 600 bytes, to a recipient of its own."""
    return json.dumps(
        {
            "targets": [{"platformId": platform_id, "type": "user", "id": f"user-{number}"}],
            "content": {"text": f"{number} {TEXT}"},
            "metadata": {"trackingId": f"t-{number}"},
        }
    ).encode()


def bare_endpoint(requests: int, stack: ExitStack) -> LoadResult:
    """The same body to a Litestar endpoint that decodes it and answers: no login, no I/O."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "bare_litestar.py"), str(port)])
    stack.callback(process.wait)
    stack.callback(process.kill)
    url = f"http://127.0.0.1:{port}/send"
    wait_for(f"http://127.0.0.1:{port}/")
    headers = {"content-type": "application/json"}
    numbers = count()
    made = (request_bytes("POST", url, headers, message("p" * 36, next(numbers))) for _ in range(requests))
    return load(url, made)


def wait_for(url: str) -> None:
    """Until something answers there."""
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{url} does not answer")


@dataclass(frozen=True)
class Sending:
    """Where to send, and as whom."""

    url: str
    key: str
    platform_id: str
    project: str = "bench"

    def send(self, requests: int, *, start: int = 0) -> LoadResult:
        """The same bodies to the gateway's send endpoint."""
        target = f"{self.url}/api/v1/projects/{self.project}/messages/send"
        headers = {"content-type": "application/json", "x-api-key": self.key}
        numbers = count(start)
        made = (
            request_bytes("POST", target, headers, message(self.platform_id, next(numbers))) for _ in range(requests)
        )
        return load(target, made)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench accept", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--process", choices=["api", "serve"], default="api")
    parser.add_argument("--url")
    parser.add_argument("--key")
    parser.add_argument("--platform-id")
    parser.add_argument("--project", default="bench")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        bare = bare_endpoint(options.requests, stack)
        print(f"bare Litestar endpoint   {bare.line()}")
        if options.url:
            sending = Sending(options.url, options.key, options.platform_id, options.project)
        else:
            sending = start(options.database, options.process, stack)
        sending.send(500)  # warm up
        result = sending.send(options.requests, start=1000)
        print(f"accept ({options.database}, {options.process})  {result.line()}")
        print(f"ratio to the bare endpoint: {result.rate / bare.rate:.2f}")


def start(database: str, process: str, stack: ExitStack) -> Sending:
    """A gateway of the wanted kind with a key and a sandbox platform."""
    database_url = None
    if database == "postgresql":
        server = stack.enter_context(PostgresServer())
        database_url = server.create_database("bench")
    data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="msgcore-bench-")))
    # `serve` makes the database and the account; `api` then accepts without anybody delivering.
    with GatewayProcess("serve", data_dir=data_dir, database_url=database_url) as first:
        key = first.set_up()
        platform_id = first.add_platform(key, "sandbox", {})
    gateway_process = stack.enter_context(GatewayProcess(process, data_dir=data_dir, database_url=database_url))
    return Sending(gateway_process.url, key, platform_id)
