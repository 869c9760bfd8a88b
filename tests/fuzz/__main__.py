"""The long run over every parser of what outsiders send: `make test-fuzz`, or `python -m fuzz [a part of a name]`.

MSGCORE_FUZZ_SECONDS is for how long each is tried, in seconds of processor time; MSGCORE_FUZZ_SEED is what the first round is made from.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import traceback

from fuzz.growing import MOST, TIMES, growth
from fuzz.runs import MOST_BYTES, MOST_SECONDS, Figures, long_run, quietly
from fuzz.target import Target
from fuzz.targets import all_targets

MOST_MEMORY = 4 * 1024**3
"""Bytes of the whole run: what asks for more fails."""
LONG = 30_000
"""Characters; it is compared with eight times as many."""


def main() -> int:
    """Try all targets, or those with one of the given words in their names; 1 if anything was wrong."""
    quietly()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    seconds = float(os.environ.get("MSGCORE_FUZZ_SECONDS", "10"))
    first_seed = int(os.environ.get("MSGCORE_FUZZ_SEED") or random.randrange(10**6))
    words = sys.argv[1:] or [""]
    targets = [target for target in all_targets() if any(word in target.name for word in words)]
    print(f"{len(targets)} parsers, {seconds:.0f} s each, seed {first_seed}")
    print(f"{'parser':<42}{'cases':>9}{'seconds':>9}{'longest':>11}{'memory':>10}")
    bad = [target.name for target in targets if not _tell(target, long_run(target, seconds, first_seed))]
    bad += [f"{target}: {piece!r}" for target in targets for piece in target.grows if not _is_linear(target, piece)]
    print(f"{len(bad)} with something wrong" if bad else "nothing was wrong", *bad, sep="\n  ")
    return 1 if bad else 0


def _tell(target: Target, figures: Figures) -> bool:
    longest, grown = f"{figures.longest * 1000:.0f} ms", f"{figures.grown / 2**20:+.1f} MB"
    print(f"{target.name:<42}{figures.cases:>9}{figures.seconds:>9.1f}{longest:>11}{grown:>10}", flush=True)
    if figures.failure is not None:
        traceback.print_exception(figures.failure)
    elif not figures.is_good:
        print(f"  at most {MOST_SECONDS} s for a case and {MOST_BYTES / 2**20:.0f} MB are allowed")
    return figures.is_good


def _is_linear(target: Target, piece: str) -> bool:
    assert target.read is not None
    found = growth(target.read, piece, LONG)
    if found >= MOST:
        print(f"{target.name}: {found:.0f} times as long for {TIMES} times as much of {piece!r}")
    return found < MOST


if __name__ == "__main__":
    sys.exit(main())
