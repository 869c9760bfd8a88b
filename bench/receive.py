"""How fast signed webhooks of platforms are received: verified, stored, answered, and read into events meanwhile.

    python -m bench receive [--database sqlite|postgresql] [--redis URL|local] [--requests 20000]

Prints requests/s, p50 and p99 beside those of a bare Litestar endpoint that decodes a body as large and answers,
the ratio, and how long after the last answer everything had been read into the event log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from standardwebhooks import Webhook

from bench.accept import TEXT, bare_endpoint
from bench.delivery import SECRET
from bench.http_load import load, request_bytes
from bench.places import Place, add_place, benchmark_parser
from servers.gateway import GatewayProcess

CHATS = 200
PATIENCE_SECONDS = 120.0


def report(number: int) -> bytes:
    """A message of somebody, about 600 bytes."""
    content = {"kind": "message", "id": f"m-{number}", "text": f"{number} {TEXT}"}
    author = {"id": f"user-{number % CHATS}", "name": "Ann"}
    return json.dumps({"chat": {"id": f"chat-{number % CHATS}"}, "author": author, "content": content}).encode()


def signed_requests(url: str, first: int, number: int) -> Iterator[bytes]:
    """So many requests as a platform makes them."""
    signer = Webhook(SECRET)
    for each in range(first, first + number):
        now, body = datetime.now(UTC), report(each)
        headers = {
            "content-type": "application/json",
            "webhook-id": f"msg-{each}",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(f"msg-{each}", now, body.decode()),
        }
        yield request_bytes("POST", url, headers, body)


def newest_event(gateway: GatewayProcess, key: str) -> int:
    """How many events the project has had."""
    return int(gateway.call("GET", "/api/v1/projects/bench/events", x_api_key=key)["next"])


def seconds_until_read(gateway: GatewayProcess, key: str, events: int) -> float:
    """Wait until the log has so many; how long that took."""
    started = time.monotonic()
    while newest_event(gateway, key) < events:
        if time.monotonic() > started + PATIENCE_SECONDS:
            raise SystemExit(f"only {newest_event(gateway, key)} of {events} were read")
        time.sleep(0.01)
    return time.monotonic() - started


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("receive", __doc__)
    add_place(parser)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        bare = bare_endpoint(options.requests, stack)
        print(f"bare Litestar endpoint   {bare.line()}")
        place = Place.of(options, stack)
        gateway = stack.enter_context(place.gateway())
        key = gateway.set_up()
        platform_id = gateway.add_platform(key, "webhook", {"url": "https://example.com/", "secret": SECRET})
        found = gateway.call("GET", f"/api/v1/projects/bench/platforms/{platform_id}", x_api_key=key)
        url = gateway.url + "/api/v1" + found["webhookUrl"].partition("/api/v1")[2]
        load(url, signed_requests(url, 0, 500))  # warm up
        result = load(url, iter(list(signed_requests(url, 1000, options.requests))))
        print(f"received ({place.name})  {result.line()}")
        print(f"ratio to the bare endpoint: {result.rate / bare.rate:.2f}")
        late = seconds_until_read(gateway, key, options.requests + 500)
        print(f"all read into events {1000 * late:.0f} ms after the last answer")
