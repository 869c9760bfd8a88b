"""`python -m bench`: all benchmarks. `python -m bench accept --help`: one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench import accept, delivery, latency, scheduler

BENCHMARKS: dict[str, Callable[[list[str]], None]] = {
    "scheduler": scheduler.main,
    "accept": accept.main,
    "delivery": delivery.main,
    "latency": latency.main,
}


def main() -> None:
    """Run the benchmark that is named, or all of them on both databases."""
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("all", [])
    if name in BENCHMARKS:
        BENCHMARKS[name](rest)
    elif name == "all":
        scheduler.main([])
        for database in ("sqlite", "postgresql"):
            accept.main(["--database", database])
            delivery.main(["--database", database])
            latency.main(["--database", database])
    else:
        raise SystemExit(f"usage: python -m bench [{'|'.join(BENCHMARKS)}] [options]")


if __name__ == "__main__":
    main()
