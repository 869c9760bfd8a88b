"""How fast messages are accepted and delivered at once, by one process.

    python -m bench both [--database sqlite|postgresql] [--redis URL|local] [--requests 20000]

One `msgcore serve` takes requests over 32 connections and delivers them to the `webhook` platform at
a local sink meanwhile. The reference is a bare Litestar endpoint that answers and then posts
the same body to the same sink, out of memory. Prints both rates of both, and the ratio of the times in which
everything had arrived.
"""

from __future__ import annotations

import time
import urllib.request
from contextlib import ExitStack

from bench.accept import Sending, bare_endpoint
from bench.delivery import SECRET, sink_state, start_sink
from bench.http_load import LoadResult
from bench.places import Place, add_place, benchmark_parser

PATIENCE = 60.0


def drained(sink: str, messages: int) -> float:
    """Wait until all have come; seconds between the first and the last. Raises SystemExit when none comes any more."""
    came, moment = 0, time.monotonic()
    while True:
        number, first, last = sink_state(sink)
        if number >= messages:
            return last - first
        if number > came:
            came, moment = number, time.monotonic()
        elif time.monotonic() - moment > PATIENCE:
            raise SystemExit(f"only {number} of {messages} came, and none for {PATIENCE:.0f} s")
        time.sleep(0.1)


def line(name: str, accepted: LoadResult, seconds: float) -> str:
    """One line for people."""
    number = len(accepted.latencies)
    return f"{name:28} accepted {accepted.line()}\n{'':28} delivered {number / seconds:7.0f} messages/s meanwhile"


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("both", __doc__)
    add_place(parser)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        sink = start_sink(stack)
        with ExitStack() as reference:
            bare = bare_endpoint(options.requests, reference, f"{sink}/bare")
            bare_seconds = drained(sink, options.requests)
        print(line("bare endpoint with relay", bare, bare_seconds))
        urllib.request.urlopen(f"{sink}/reset").close()
        place = Place.of(options, stack)
        gateway = stack.enter_context(place.gateway())
        key = gateway.set_up()
        platform_id = gateway.add_platform(key, "webhook", {"url": f"{sink}/hook", "secret": SECRET})
        result = Sending(gateway.url, key, platform_id).send(options.requests)
        seconds = drained(sink, options.requests)
        print(line(f"gateway ({place.name})", result, seconds))
        print(f"ratio of all accepted and delivered: {bare_seconds / seconds:.2f}")
