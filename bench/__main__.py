"""`python -m bench`: all benchmarks. `python -m bench accept --help`: one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench import (
    accept,
    accounts,
    both,
    delivery,
    fairness,
    latency,
    limits,
    peer,
    receive,
    scheduler,
    streams,
    texts,
    timing,
    transport,
)

BENCHMARKS: dict[str, Callable[[list[str]], None]] = {
    "scheduler": scheduler.main,
    "accept": accept.main,
    "delivery": delivery.main,
    "both": both.main,
    "latency": latency.main,
    "fairness": fairness.main,
    "limits": limits.main,
    "receive": receive.main,
    "peer": peer.main,
    "transport": transport.main,
    "streams": streams.main,
    "accounts": accounts.main,
    "texts": texts.main,
    "timing": timing.main,
}


def main() -> None:
    """Run the benchmark that is named, or all of them on both databases.

    All but `peer`, which needs a peer, and `timing`, which is no benchmark.
    """
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("all", [])
    if name in BENCHMARKS:
        BENCHMARKS[name](rest)
    elif name == "all":
        scheduler.main([])
        transport.main([])
        for database in ("sqlite", "postgresql"):
            each = (accept.main, delivery.main, both.main, latency.main, fairness.main, limits.main, receive.main)
            for run in (*each, streams.main, accounts.main, texts.main):
                run(["--database", database])
    else:
        raise SystemExit(f"usage: python -m bench [{'|'.join(BENCHMARKS)}] [options]")


if __name__ == "__main__":
    main()
