"""Whether the time that a refusal takes tells anything of the secret, or of who has an account.

    python -m bench timing [--database sqlite|postgresql] [--samples 5000] [--only TEXT] [--http]

Measures wrong API keys, webhook addresses, invitations, signatures of each platform, logins and sign-ins in this
process, those of a group in random order, and compares each with the first of its group: Welch's t-test without the
slowest tenth, and the Mann-Whitney test of all. From 4.5 on either sees a difference; it counts once it is seen again,
the same way round, in samples of their own. "from" is the difference that the t-test would have seen. In the same run
it has to see what is planted: a comparison that returns early, a key that is found by its prefix, a sign-in that
computes nothing for addresses that are nobody's. Status 1 says that something differs, or that it did not see that.

`--http` also asks a gateway over a loopback connection, where less is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Iterable
from contextlib import ExitStack

from bench.places import Place, add_place, benchmark_parser
from bench.timing_cases import Group, calls
from bench.timing_http import over_http
from bench.timing_lookups import World, lookups
from bench.timing_sign_in import sign_ins
from bench.timing_signatures import signatures
from bench.timing_statistics import Comparison, compare
from msgcore.store.database import Database
from msgcore.store.migrate import upgrade

LEAST = 1000


async def measure(group: Group, samples: int) -> dict[str, list[int]]:
    """Nanoseconds that each way took, so many times."""
    taken: dict[str, list[int]] = {name: [] for name in group.ways}
    order = list(group.ways) * calls(samples)
    random.shuffle(order)
    gc.disable()
    try:
        for name in order:
            call = group.ways[name]()
            began = time.perf_counter_ns()
            try:
                await call()
            except group.refusal:
                taken[name].append(time.perf_counter_ns() - began)
            else:
                raise SystemExit(f"{group.name}: {name} was let in")
    finally:
        gc.enable()
    return {name: each[-samples:] for name, each in taken.items()}


async def judge(group: Group, samples: int) -> bool:
    """Measure a group and print it; whether it is as it should be."""
    number = int(samples * group.share)
    found = await _compared(group, number)
    seen = [name for name, each in found.items() if each.differs]
    if seen:  # once more: with so many comparisons, one may differ by chance
        again = await _compared(group, number)
        seen = [name for name in seen if found[name].agrees(again[name])]
    first = next(iter(group.ways))
    print(f"{group.name} ({number} each, beside: {first})")
    good = True
    for name, each in found.items():
        if name in group.by_design:
            verdict = f"by design: {group.by_design[name]}" if name in seen else "no difference"
        elif group.planted:
            verdict, good = ("seen, as it has to be", good) if name in seen else ("NOT SEEN", False)
        else:
            verdict, good = ("DIFFERS", False) if name in seen else ("no difference", good)
        print(f"  {name:30} {line(each)}   {verdict}", flush=True)
    return good


def line(each: Comparison) -> str:
    """A comparison for people, in microseconds."""
    first, second = (value / 1000 for value in each.medians)
    return f"{first:9.2f} {second:9.2f} us   t {each.t:+7.1f}   z {each.z:+7.1f}   from {each.sees_from / 1000:7.3f} us"


async def _compared(group: Group, number: int) -> dict[str, Comparison]:
    gc.collect()
    taken = await measure(group, number)
    first, *others = taken
    return {name: compare(taken[first], taken[name]) for name in others}


async def run(options: argparse.Namespace, place: Place) -> bool:
    """Measure everything that is chosen; whether all is as it should be."""
    database = Database.open(place.sql_url, synchronous="normal")
    await upgrade(database)
    world = World(database)
    await world.fill()
    try:
        good = await judge_all(signatures(), options)
        good &= await judge_all(lookups(world), options)
        return await judge_all(await sign_ins(database, options.samples), options) and good
    finally:
        await world.close()
        await database.close()


async def judge_all(groups: Iterable[Group], options: argparse.Namespace) -> bool:
    """Those that are chosen, also after one that is not as it should be. Each is made just before it is measured."""
    return all([await judge(group, options.samples) for group in groups if options.only in group.name])


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = benchmark_parser("timing", __doc__)
    add_place(parser)
    parser.add_argument("--samples", type=int, default=5000, help="of each way; less where one takes long (5000)")
    parser.add_argument("--only", default="", metavar="TEXT", help="groups that have this in their name")
    parser.add_argument("--http", action="store_true", help="also over a loopback connection")
    options = parser.parse_args(arguments)
    if options.samples < LEAST:
        parser.error(f"--samples must be {LEAST} or more")
    with ExitStack() as stack:
        place = Place.of(options, stack)
        print(f"{place.name}, medians of the first of each group and of the way")
        good = asyncio.run(run(options, place))
        if options.http:
            with over_http(Place.of(options, stack)) as groups:
                good &= asyncio.run(judge_all(groups, options))
    if not good:
        raise SystemExit(1)
