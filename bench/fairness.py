"""What a backlog of one tenant does to the single messages of another.

    python -m bench fairness [--database sqlite|postgresql] [--redis URL|local] [--backlog 100000] [--messages 200]

Tenant B sends one message at a time to its webhook, first on an idle gateway, then while tenant A's
backlog is being delivered to another receiver as fast as it goes. Measured from the request to the
arrival: accepting, committing, scheduling and sending. Prints p50 and p99 of both, and their ratios.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import ExitStack

import uvloop

from bench.delivery import SECRET, sink_state, start_sink
from bench.http_load import load, request_bytes
from bench.latency import Receiver, line, one_by_one, percentile, receiving
from bench.places import Place, add_place, benchmark_parser
from servers.gateway import PASSWORD, GatewayProcess

TENANT_A, TENANT_B = "bench", "other"
TARGETS = 1000
STARTED = 1000
"""Deliveries of the backlog after which it is under way."""


def second_tenant(gateway: GatewayProcess) -> str:
    """Another project of the same user, and a key of its own."""
    login = {"email": "bench@example.com", "password": PASSWORD}
    token = gateway.call("POST", "/api/v1/auth/login", login)["accessToken"]
    bearer = f"Bearer {token}"
    gateway.call("POST", "/api/v1/projects", {"name": TENANT_B, "id": TENANT_B}, authorization=bearer)
    body = {"name": "bench", "scopes": ["messages:write", "messages:read", "platforms:read", "platforms:write"]}
    return str(gateway.call("POST", f"/api/v1/projects/{TENANT_B}/keys", body, authorization=bearer)["key"])


def backlog(gateway: GatewayProcess, key: str, platform_id: str, deliveries: int) -> None:
    """Accept so many deliveries of tenant A, each to a recipient of its own."""
    url = f"{gateway.url}/api/v1/projects/{TENANT_A}/messages/send"
    headers = {"content-type": "application/json", "x-api-key": key}
    bodies = (
        json.dumps(
            {
                "targets": [
                    {"platformId": platform_id, "type": "user", "id": f"user-{number}"}
                    for number in range(at, min(at + TARGETS, deliveries))
                ],
                "content": {"text": "backlog"},
            }
        ).encode()
        for at in range(0, deliveries, TARGETS)
    )
    result = load(url, (request_bytes("POST", url, headers, body) for body in bodies), connections=4)
    if set(result.statuses) != {201}:
        raise SystemExit(f"the backlog was not accepted: {dict(result.statuses)} {result.failure.decode()}")


def wait_until_under_way(sink: str) -> None:
    """Until the backlog is being delivered."""
    deadline = time.monotonic() + 60
    while sink_state(sink)[0] < STARTED:
        if time.monotonic() > deadline:
            raise SystemExit("the backlog is not being delivered")
        time.sleep(0.05)


async def measure(place: Place, sink: str, deliveries: int, messages: int) -> tuple[list[float], list[float]]:
    """Milliseconds of tenant B's messages on the idle gateway, and beside the backlog."""
    async with receiving() as receiver:
        with place.gateway() as gateway:
            key_a = await asyncio.to_thread(gateway.set_up)
            key_b = await asyncio.to_thread(second_tenant, gateway)
            to_sink, to_receiver = ({"url": url, "secret": SECRET} for url in (f"{sink}/hook", receiver.url))
            account_a = await asyncio.to_thread(gateway.add_platform, key_a, "webhook", to_sink)
            account_b = await asyncio.to_thread(gateway.add_platform, key_b, "webhook", to_receiver, TENANT_B)
            idle = await _tenant_b(gateway, receiver, key_b, account_b, messages)
        with place.gateway("api") as accepting:
            await asyncio.to_thread(backlog, accepting, key_a, account_a, deliveries)
        with place.gateway() as gateway:
            await asyncio.to_thread(wait_until_under_way, sink)
            busy = await _tenant_b(gateway, receiver, key_b, account_b, messages)
            delivered = (await asyncio.to_thread(sink_state, sink))[0]
    if delivered >= deliveries:
        raise SystemExit(f"the backlog was gone before tenant B had sent {messages} messages: make it larger")
    print(f"  {delivered} of {deliveries} deliveries of tenant A were made meanwhile")
    return idle, busy


async def _tenant_b(
    gateway: GatewayProcess, receiver: Receiver, key: str, platform_id: str, messages: int
) -> list[float]:
    url = f"{gateway.url}/api/v1/projects/{TENANT_B}/messages/send"
    await one_by_one(receiver, url, key, platform_id, 10)  # warm up
    return await one_by_one(receiver, url, key, platform_id, messages)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("fairness", __doc__)
    add_place(parser)
    parser.add_argument("--backlog", type=int, default=100_000, help="deliveries of tenant A (100000)")
    parser.add_argument("--messages", type=int, default=200, help="messages of tenant B (200)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        place = Place.of(options, stack)
        sink = start_sink(stack)
        idle, busy = uvloop.run(measure(place, sink, options.backlog, options.messages))
    print(f"tenant B on an idle gateway ({place.name})   {line(idle)}")
    print(f"tenant B beside {options.backlog} of tenant A   {line(busy)}")
    medians = statistics.median(busy) / statistics.median(idle)
    print(f"ratio: p50 {medians:.1f}   p99 {percentile(busy, 0.99) / percentile(idle, 0.99):.1f}")
