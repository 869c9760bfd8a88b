"""How deliveries, leases and outcomes look on the wire: fixed records, read by the scripts with `struct`.

Ids are UUIDs, 16 bytes each. Lanes and routes are told apart by 8 bytes of their BLAKE2b: whom a message
goes to is no business of the scheduler, and two lanes that meet in 64 bits only wait for each other.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b

import msgspec

from msgcore.core.deliveries import Done, Lease, Outcome, Release, Retry, Ticket, Wait
from msgcore.core.errors import Scope
from msgcore.core.limits import Budget, RateLimits

_TICKET = struct.Struct("<16sBBBB16s4s").pack
_DELAY = struct.Struct("<d").pack
_OUTCOME = struct.Struct("<16sdBdBBBd").pack
_LEASE = struct.Struct("<16sd").pack
_HELD = struct.Struct("<16sI").pack
_ALLOWED = struct.Struct("<8sI").pack

_HAS_LANE, _HAS_ROUTE = 4, 8
_HAS_DELAY, _KEEPS_PLACE, _HAS_TENANT = 1, 2, 4
_BARE_RECORD = 21
MOST_LIMITS = 255
"""As many different limits fit into one batch."""
_DONE, _RETRY, _WAIT, _RELEASE = range(4)
_ANSWERED, _TROUBLE = 1, 2
_SCOPES = {Scope.DELIVERY: 0, Scope.LANE: 1, Scope.ROUTE: 2, Scope.ACCOUNT: 3}


def pack_id(text: str) -> bytes:
    """A UUID as its 16 bytes. Raises ValueError for anything else."""
    packed = bytes.fromhex(text.replace("-", ""))
    if len(packed) != 16:  # noqa: PLR2004
        raise ValueError(f"{text!r} is not a UUID")
    return packed


def unpack_id(packed: bytes) -> str:
    """The text of a UUID."""
    text = packed.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


pack_account = lru_cache(10_000)(pack_id)
"""As `pack_id`, for the few ids that come again and again."""


def pack_tickets(tickets: Sequence[Ticket]) -> Iterator[tuple[bytes, bytes]]:
    """The limits that occur (MessagePack), and the tickets, each with the number of its limits.

    More than one pair only where a batch has more different limits than a byte can number.
    """
    generation = os.urandom(4)
    numbers: dict[int, int] = {}
    known: list[RateLimits] = []
    records: list[bytes] = []
    for ticket in tickets:
        number = numbers.get(id(ticket.limits))
        if number is None:
            if len(known) == MOST_LIMITS:
                yield _pack_limits(known), b"".join(records)
                numbers, known, records = {}, [], []
            known.append(ticket.limits)
            number = numbers[id(ticket.limits)] = len(known)
        records.append(_pack_ticket(ticket, number, generation))
    yield _pack_limits(known), b"".join(records)


def _pack_ticket(ticket: Ticket, number: int, generation: bytes) -> bytes:
    """See `lua/tickets.lua` for the form, and `lua/common.lua` for that of the record in it."""
    flags, tail, how = int(ticket.rank), b"", 0
    if ticket.lane is not None:
        flags |= _HAS_LANE
        tail = _digest(ticket.lane)
    if ticket.route is not None:
        flags |= _HAS_ROUTE
        tail += _digest(ticket.route)
    length = _BARE_RECORD + len(tail)
    if ticket.tenant:
        how = _HAS_TENANT
        tail += pack_tenant(ticket.tenant)
    if ticket.delay > 0:
        how |= _HAS_DELAY | (_KEEPS_PLACE if ticket.keeps_place else 0)
        tail += _DELAY(ticket.delay)
    delivery, account = pack_id(ticket.delivery_id), pack_account(ticket.account_id)
    return _TICKET(delivery, how, number, length, flags, account, generation) + tail


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


pack_tenant = lru_cache(10_000)(_digest)
"""A tenant as told apart from others."""


def _pack_limits(known: Sequence[RateLimits]) -> bytes:
    return msgspec.msgpack.encode(
        [[_flat(one.account), _flat(one.lane), _flat(one.route), one.in_flight] for one in known]
    )


def _flat(budgets: tuple[Budget, ...]) -> list[float]:
    return [number for budget in budgets for number in (budget.interval, budget.tolerance)]


def pack_outcomes(outcomes: Iterable[Outcome]) -> bytes:
    """Outcomes as records."""
    return b"".join(map(_pack_outcome, outcomes))


def _pack_outcome(outcome: Outcome) -> bytes:
    kind, delay, flags, scope, pace_scope, pace_delay = _DONE, 0.0, 0, 0, 0, 0.0
    match outcome:
        case Done(answered=answered, pace=pace):
            flags = _ANSWERED if answered else 0
            if pace is not None and pace.remaining <= 0:
                pace_scope, pace_delay = _SCOPES[pace.scope] + 1, pace.reset_after
        case Retry(delay=delay, trouble=trouble):
            kind, flags = _RETRY, _TROUBLE if trouble else 0
        case Wait(delay=delay, scope=waits):
            kind, scope = _WAIT, _SCOPES[waits]
        case Release():
            kind = _RELEASE
    lease = outcome.lease
    return _OUTCOME(pack_id(lease.delivery_id), float(lease.token), kind, delay, flags, scope, pace_scope, pace_delay)


def pack_leases(leases: Iterable[Lease]) -> bytes:
    """Leases as records: delivery and token."""
    return b"".join(_LEASE(pack_id(lease.delivery_id), float(lease.token)) for lease in leases)


def pack_held(held: Iterable[tuple[str, int]]) -> bytes:
    """How many leases a worker has of which account."""
    return b"".join(_HELD(pack_account(account), number) for account, number in held)


def pack_allowed(allowed: Iterable[tuple[bytes, int]]) -> bytes:
    """How many leases a worker may have of which tenant."""
    return b"".join(_ALLOWED(tenant, number) for tenant, number in allowed)
