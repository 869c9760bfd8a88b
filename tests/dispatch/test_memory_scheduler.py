"""What only the in-process scheduler promises: that it forgets what it no longer needs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.scheduler_harness import LEASE_SECONDS
from msgcore.core.deliveries import Done, Rank, Release, Retry, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.core.limits import UNLIMITED, Budget, RateLimits
from msgcore.dispatch.memory import MemoryScheduler
from servers.clock import FakeClock

LIMITS = RateLimits(account=(Budget(5, 1.0),), lane=(Budget(1, 1.0),))


async def test_nothing_is_kept_of_finished_work() -> None:
    clock = FakeClock()
    scheduler = MemoryScheduler(clock)
    await scheduler.enqueue([Ticket(str(n), f"a{n % 7}", f"l{n % 50}", limits=LIMITS) for n in range(500)])
    done = 0
    while done < 500:
        leases = await scheduler.claim(100)
        await scheduler.finish([Done(lease) for lease in leases])
        done += len(leases)
        clock.advance(0.5)
    clock.advance(LEASE_SECONDS * 2)
    await scheduler.claim(1)
    clock.advance(LEASE_SECONDS * 2)
    await scheduler.claim(1)
    state = vars(scheduler) | vars(scheduler._agenda)
    for name in ("_entries", "accounts", "ring", "timers", "_deadlines"):
        assert not state[name], name


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.integers(0, 3), st.sampled_from(Rank), st.booleans()),
        st.tuples(st.just("claim"), st.integers(1, 6)),
        st.tuples(st.just("finish"), st.integers(0, 5), st.sampled_from(["done", "retry", "wait", "release"])),
        st.tuples(st.just("advance"), st.floats(0, 40)),
        st.tuples(st.just("pause"), st.integers(0, 3)),
        st.tuples(st.just("resume"), st.integers(0, 3)),
    ),
    max_size=80,
)


@given(steps)
@settings(max_examples=150, deadline=None)
async def test_random_operations_lose_nothing_and_keep_order(operations: list[tuple]) -> None:
    """Whatever happens, each delivery is finished once, and each lane in order."""
    clock = FakeClock()
    scheduler = MemoryScheduler(clock, lease_seconds=LEASE_SECONDS)
    added: list[str] = []
    lanes: dict[str, str | None] = {}
    finished: list[str] = []
    held = {}

    async def claim(limit: int) -> None:
        for lease in await scheduler.claim(limit):
            held[lease.delivery_id] = lease
        busy = [lanes[i] for i in held if lanes[i] is not None]
        assert len(busy) == len(set(busy)), "two of one lane in flight"

    async def finish(lease, how: str) -> None:
        outcome = {
            "done": lambda: Done(lease),
            "retry": lambda: Retry(lease, 3.0),
            "wait": lambda: Wait(lease, 2.0, Scope.ACCOUNT),
            "release": lambda: Release(lease),
        }[how]()
        if not (await scheduler.finish([outcome])).lost and how == "done":
            finished.append(lease.delivery_id)
        held.pop(lease.delivery_id, None)

    for operation in operations:
        match operation:
            case ("add", account, lane, rank, limited):
                delivery_id = f"{len(added):04}"
                key = f"{account}/{lane}" if lane else None
                added.append(delivery_id)
                lanes[delivery_id] = key
                limits = LIMITS if limited else UNLIMITED
                await scheduler.enqueue([Ticket(delivery_id, f"a{account}", key, rank, limits=limits)])
            case ("claim", limit):
                await claim(limit)
            case ("finish", index, how) if held:
                await finish(list(held.values())[index % len(held)], how)
            case ("advance", seconds):
                clock.advance(seconds)
                if seconds >= LEASE_SECONDS:
                    held.clear()
            case ("pause", account):
                await scheduler.pause(f"a{account}")
            case ("resume", account):
                await scheduler.resume(f"a{account}")
            case _:
                pass
    for account in range(4):
        await scheduler.resume(f"a{account}")
    for _ in range(len(added) * 6 + 50):
        clock.advance(LEASE_SECONDS)  # also lets go of what is held
        held.clear()
        await claim(100)
        for lease in list(held.values()):
            await finish(lease, "done")
    assert sorted(finished) == added
    for key in set(lanes.values()) - {None}:
        assert [i for i in finished if lanes[i] == key] == [i for i in added if lanes[i] == key]
