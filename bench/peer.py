"""Any server that speaks the compatible API, under the same load and before the same sink.

    python -m bench peer --url http://127.0.0.1:7890 --key msc_... --project NAME --platform-id ID
        [--target user-{n}] [--recipients 1000] [--target-type user] [--sink-port N] [--connections 32]
        [--messages 5000]

Sends `--messages` requests to POST /api/v1/projects/:project/messages/send with X-API-Key and prints how
many a second are accepted, and how long that took. With `--sink-port` it also runs a sink on that port
of 127.0.0.1, and prints how many a second arrive there, how many never do, and how many come twice.

Before the run, point the platform at the sink: a `webhook` platform by its url
(http://127.0.0.1:N/hook); others by the server's base URL for that platform, as
MSGCORE_TELEGRAM_BASE_URL=http://127.0.0.1:N does here. The sink takes whatever it gets for a message and
answers so that clients of the webhook, Discord and Telegram APIs are content. A server that guards against
private addresses must allow it (MSGCORE_EGRESS_ALLOW=127.0.0.0/8 here).

Each text holds a mark of its own, by which the sink tells messages apart. `{n}` in the target is a number
below `--recipients`: a server that keeps the order of a conversation sends one at a time to each.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from bench.http_load import LoadResult, load, request_bytes
from bench.places import benchmark_parser, start_server

PADDING = "x" * 400
WARM_UP = 100
PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class Peer:
    """The server, and what each request says."""

    url: str
    key: str
    project: str
    platform_id: str
    target_type: str
    target: str
    recipients: int

    @property
    def send_url(self) -> str:
        """Where messages go."""
        return f"{self.url.rstrip('/')}/api/v1/projects/{self.project}/messages/send"

    def body(self, run: str, number: int) -> bytes:
        """A request of about 600 bytes."""
        target = self.target.replace("{n}", str(number % self.recipients))
        return json.dumps(
            {
                "targets": [{"platformId": self.platform_id, "type": self.target_type, "id": target}],
                "content": {"text": f"mark{run}n{number}e {PADDING}"},
            }
        ).encode()

    def send(self, run: str, messages: int, connections: int) -> LoadResult:
        """So many requests over so many connections."""
        headers = {"content-type": "application/json", "x-api-key": self.key}
        made = (request_bytes("POST", self.send_url, headers, self.body(run, number)) for number in range(messages))
        return load(self.send_url, made, connections=connections)


class Arrivals(msgspec.Struct, frozen=True):
    """What the sink saw of a run's messages: how many, how many of them again, and when the first and the last."""

    messages: int
    again: int
    first: float
    last: float

    @classmethod
    def of(cls, sink: str, run: str) -> Arrivals:
        """As of now."""
        with urllib.request.urlopen(f"{sink}/marks?{run}") as answer:
            messages, again, first, last = answer.read().split()
        return cls(int(messages), int(again), float(first), float(last))


def check(peer: Peer, run: str) -> None:
    """Send one message. Raises SystemExit, with what the server said, when it does not take it."""
    headers = {"content-type": "application/json", "x-api-key": peer.key}
    request = urllib.request.Request(peer.send_url, peer.body(run, 0), headers)
    try:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace")
        raise SystemExit(f"{peer.send_url} answered {error.code}: {said}") from None
    except OSError as error:
        raise SystemExit(f"{peer.url} does not answer ({error}): is the server running there?") from None


def settled(sink: str, run: str, messages: int, patience: float) -> Arrivals:
    """Wait until so many have arrived, or none has for `patience` seconds."""
    seen, since = Arrivals.of(sink, run), time.monotonic()
    while seen.messages < messages and time.monotonic() - since < patience:
        time.sleep(0.1)
        newer = Arrivals.of(sink, run)
        if newer.messages > seen.messages:
            since = time.monotonic()
        seen = newer
    return seen


def report_accepted(result: LoadResult) -> None:
    """Print what the server said."""
    print(f"accepted   {result.succeeded / result.seconds:8.0f} messages/s   statuses {dict(result.statuses)}")
    print(
        "           " + "   ".join(f"p{share:g} {result.percentile(share / 100):.1f} ms" for share in (50, 90, 99, 100))
    )
    if result.failure:
        print(f"           the newest refusal: {result.failure[:500].decode(errors='replace')}")
    if result.broken:
        print(f"           {result.broken} connections were closed by the server before it answered")


def report_arrivals(sink: str, run: str, accepted: int, patience: float) -> None:
    """Wait for what was accepted and print what came of it."""
    seen = settled(sink, run, accepted, patience)
    if not seen.messages:
        raise SystemExit(f"nothing arrived at {sink} within {patience:.0f} s: does the platform point to it?")
    # One that comes a second time may still be on its way.
    time.sleep(1.0)
    seen = Arrivals.of(sink, run)
    rate = (seen.messages - 1) / (seen.last - seen.first) if seen.messages > 1 else 0.0
    print(f"delivered  {rate:8.0f} messages/s   {seen.messages} of {accepted} accepted")
    print(f"lost {max(0, accepted - seen.messages)}   duplicates {seen.again}")


def read_options(arguments: list[str]) -> tuple[Peer, int, int, int | None, float]:
    """The peer, messages, connections, port of the sink, and patience."""
    parser = benchmark_parser("peer", __doc__)
    parser.add_argument("--url", required=True, help="the server, http://127.0.0.1:7890")
    parser.add_argument("--key", required=True, help="an API key with messages:write")
    parser.add_argument("--project", required=True, help="the project's slug")
    parser.add_argument("--platform-id", required=True, help="id of a configured platform of the project")
    parser.add_argument("--target", default="user-{n}", help="the recipient; {n} becomes a number (user-{n})")
    parser.add_argument("--recipients", type=int, default=1000, help="how many different {n} there are (1000)")
    parser.add_argument("--target-type", default="user", choices=["user", "channel", "group"], help="(user)")
    parser.add_argument("--sink-port", type=int, help="run a sink there, and measure deliveries too")
    parser.add_argument("--connections", type=int, default=32, help="requests under way at once (32)")
    parser.add_argument("--messages", type=int, default=5000, help="how many to send (5000)")
    parser.add_argument(
        "--patience", type=float, default=30.0, help="seconds without an arrival after which the rest is lost (30)"
    )
    options = parser.parse_args(arguments)
    url: str = options.url
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        parser.error("--url must be http:// and on this machine (127.0.0.1 or localhost): the load is not for others")
    if min(options.messages, options.connections, options.recipients) < 1:
        parser.error("--messages, --connections and --recipients must be at least 1")
    peer = Peer(
        url,
        options.key,
        options.project,
        options.platform_id,
        options.target_type,
        options.target,
        options.recipients,
    )
    return peer, options.messages, options.connections, options.sink_port, options.patience


def main(arguments: list[str]) -> None:
    """Measure and print."""
    peer, messages, connections, sink_port, patience = read_options(arguments)
    with ExitStack() as stack:
        sink = None if sink_port is None else start_server("bench.sink", "/count", stack, port=sink_port)
        warm_up = secrets.token_hex(4)
        check(peer, warm_up)
        peer.send(warm_up, WARM_UP, connections)
        if sink is not None:
            settled(sink, warm_up, WARM_UP, patience)
        run = secrets.token_hex(4)
        result = peer.send(run, messages, connections)
        report_accepted(result)
        if not result.succeeded:
            sys.exit(1)
        if sink is not None:
            report_arrivals(sink, run, result.succeeded, patience)
