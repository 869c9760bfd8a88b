"""What the length of texts costs, plain and in markdown: accepted, rendered and delivered by one process.

    python -m bench texts [--database sqlite|postgresql] [--redis URL|local] [--requests 4000] [--rounds 2]
        [--lengths 400 600 1500 4000]

One `msgcore serve` takes messages of one project over 32 connections and delivers them to LINE, played by a local sink,
meanwhile: long texts are checked and rendered away from the event loop, one at a time for a project. The reference is
a bare Litestar endpoint that answers and then posts the same bodies to the same sink. Prints for each length and kind
messages/s, the ratio to the reference, and the gateway's processor time a message, which hardly depends on what else
the machine does.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import psutil

from bench.accept import Sending, bare_endpoint
from bench.both import drained
from bench.delivery import cpu_seconds, start_sink
from bench.places import Place, add_place, benchmark_parser

SENTENCES = {
    "text": "The parcel has left our house and will be with you on Friday, between nine and noon. ",
    "markdown": "- The **parcel** has [left](https://example.com/p/4711) our house, and *will* be there on `Friday`\n",
}


def message(kind: str, length: int, platform_id: str, number: int) -> bytes:
    """A body with a text of this kind and length, to a recipient of its own."""
    start, sentence = f"{number}\n\n", SENTENCES[kind]
    return json.dumps(
        {
            "targets": [{"platformId": platform_id, "type": "user", "id": f"U{number:032x}"}],
            "content": {kind: (start + sentence * (length // len(sentence) + 1))[:length]},
        }
    ).encode()


@dataclass(frozen=True)
class Bench:
    """A sink, and how many messages are sent in each case."""

    sink: str
    requests: int

    def bare(self, length: int) -> float:
        """Messages/s of the endpoint that posts bodies on; of what kind their texts are is all the same to it."""
        urllib.request.urlopen(f"{self.sink}/reset").close()
        with ExitStack() as stack:
            bare_endpoint(self.requests, stack, f"{self.sink}/bare", made=partial(message, "text", length))
            return self.requests / drained(self.sink, self.requests)

    def gateway(self, send: Sending, process: psutil.Process, start: int) -> tuple[float, float]:
        """Messages/s, and seconds of the gateway's processor time a message."""
        urllib.request.urlopen(f"{self.sink}/reset").close()
        before = cpu_seconds(process)
        accepted = send.send(self.requests, start=start)
        if accepted.succeeded < self.requests:
            raise SystemExit(f"the gateway answered {accepted.failure!r}")
        rate = self.requests / drained(self.sink, self.requests)
        return rate, (cpu_seconds(process) - before) / self.requests


@contextmanager
def running(place: Place, sink: str) -> Generator[tuple[Callable[[str, int], Sending], psutil.Process]]:
    """A gateway with a LINE account that leads to the sink: what sends texts of a kind and length, and its process."""
    with place.gateway(MSGCORE_LINE_BASE_URL=sink) as gateway:
        key = gateway.set_up()
        platform_id = gateway.add_platform(key, "line", {"channelAccessToken": "benchmark-token-of-a-channel"})
        assert gateway.process is not None
        yield (
            lambda kind, length: Sending(gateway.url, key, platform_id, made=partial(message, kind, length)),
            psutil.Process(gateway.process.pid),
        )


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("texts", __doc__)
    add_place(parser)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=[400, 600, 1500, 4000])
    options = parser.parse_args(arguments)
    cases = [(kind, length) for kind in SENTENCES for length in options.lengths]
    with ExitStack() as stack:
        bench = Bench(start_sink(stack), options.requests)
        bare = {length: bench.bare(length) for length in options.lengths}
        place = Place.of(options, stack)
        print(f"gateway ({place.name})")
        sending, process = stack.enter_context(running(place, bench.sink))
        start = options.requests // 10
        sending("text", options.lengths[0]).send(start)  # warm up
        for _ in range(options.rounds):
            for kind, length in cases:
                rate, seconds = bench.gateway(sending(kind, length), process, start)
                start += options.requests
                print(
                    f"  {kind:8} {length:6} characters  {rate:7.0f} messages/s   bare {bare[length]:7.0f}"
                    f"   ratio {rate / bare[length]:.2f}   CPU {1e6 * seconds:6.0f} us a message",
                    flush=True,
                )
