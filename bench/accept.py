"""How fast messages are accepted: the real server over HTTP, beside a bare Litestar endpoint.

    python -m bench accept [--database sqlite|postgresql] [--redis URL|local] [--requests 20000] [--process api|serve]

Prints requests/s, p50 and p99 of both, and the ratio. `--process api` measures accepting alone,
`serve` accepts and delivers (to the sandbox) at once. `python -m bench peer` drives a server that runs
already.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

from bench.http_load import LoadResult, load, request_bytes
from bench.places import Place, add_place, benchmark_parser, start_server

TEXT = "x" * 420
Made = Callable[[str, int], bytes]
"""A body, of the id of a platform and a number."""


def message(platform_id: str, number: int) -> bytes:
    """A body of about 600 bytes, to a recipient of its own."""
    return json.dumps(
        {
            "targets": [{"platformId": platform_id, "type": "user", "id": f"user-{number}"}],
            "content": {"text": f"{number} {TEXT}"},
            "metadata": {"trackingId": f"t-{number}"},
        }
    ).encode()


def bare_endpoint(requests: int, stack: ExitStack, *relay: str, made: Made = message) -> LoadResult:
    """The same body to a Litestar endpoint that decodes it and answers: no login, no I/O.

    With a URL, the endpoint also posts each body there afterwards.
    """
    url = start_server("bench.bare_litestar", "/", stack, *relay) + "/send"
    headers = {"content-type": "application/json"}
    numbers = count()
    return load(url, (request_bytes("POST", url, headers, made("p" * 36, next(numbers))) for _ in range(requests)))


@dataclass(frozen=True)
class Sending:
    """Where to send, and as whom."""

    url: str
    key: str
    platform_id: str
    project: str = "bench"
    made: Made = message

    def send(self, requests: int, *, start: int = 0) -> LoadResult:
        """The same bodies to the gateway's send endpoint."""
        target = f"{self.url}/api/v1/projects/{self.project}/messages/send"
        headers = {"content-type": "application/json", "x-api-key": self.key}
        numbers = count(start)
        bodies = (self.made(self.platform_id, next(numbers)) for _ in range(requests))
        return load(target, (request_bytes("POST", target, headers, body) for body in bodies))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("accept", __doc__)
    add_place(parser)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--process", choices=["api", "serve"], default="api")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        bare = bare_endpoint(options.requests, stack)
        print(f"bare Litestar endpoint   {bare.line()}")
        place = Place.of(options, stack)
        sending = start(place, options.process, stack)
        sending.send(500)  # warm up
        result = sending.send(options.requests, start=1000)
        print(f"accept ({place.name}, {options.process})  {result.line()}")
        print(f"ratio to the bare endpoint: {result.rate / bare.rate:.2f}")


def start(place: Place, process: str, stack: ExitStack) -> Sending:
    """A gateway of the wanted kind with a key and a sandbox platform."""
    # `serve` makes the database and the account; `api` then accepts without anybody delivering.
    with place.gateway() as first:
        key = first.set_up()
        platform_id = first.add_platform(key, "sandbox", {})
    return Sending(stack.enter_context(place.gateway(process)).url, key, platform_id)
