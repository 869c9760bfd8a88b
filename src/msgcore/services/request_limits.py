"""How often the API may be asked: by a key or a person, for a project, at a webhook's address, from an address.

Each limit is a budget a minute (`core.rate`), kept in memory; with Redis it is shared (`shared_spending`).
Nothing here waits for anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from msgcore.config import Settings
from msgcore.core.clock import Clock
from msgcore.core.errors import RateLimitedError
from msgcore.core.rate import WINDOW, Allowance, RateLimit, spent_first
from msgcore.core.scopes import Principal

Note = Callable[[str, RateLimit, str, float], None]
"""Told a limit's name, the limit, the name of the budget, and how many seconds of it were spent."""

OnRefused = Callable[[str], None]
"""Told the name of the limit that a request was one too many for."""

_TRUSTED_CREDENTIALS: Final = 50_000


class Kind(StrEnum):
    """What somebody who is known asks for."""

    SENDING = "sending"
    READING = "reading"
    CHANGING = "changing"


_VERBS: Final = {Kind.SENDING: "send", Kind.READING: "read", Kind.CHANGING: "change something"}


class NamedLimit:
    """A limit with its words, and what has to be told of it: what is spent, and who is refused."""

    __slots__ = ("_advice", "_note", "_on_refused", "_words", "limit", "name")

    def __init__(self, limit: RateLimit, name: str, words: str, *, on_refused: OnRefused, note: Note | None) -> None:
        """`name` is that of metrics and of the setting, `words` say what the limit is."""
        self.limit = limit
        self.name = name
        self._words = words
        self._on_refused = on_refused
        self._note = note
        self._advice = ", send many messages in one request (messages/batch)" if name.endswith("sending") else ""

    def take(self, name: str, now: float) -> float:
        """Count one; in how many seconds the budget is whole again. Raises RateLimitedError."""
        whole_in = self.limit.take(name, now)
        if whole_in < 0:
            raise self.refusal(-whole_in)
        if self._note is not None:
            self._note(self.name, self.limit, name, self.limit.cost())
        return whole_in

    def check(self, name: str, now: float) -> None:
        """Raises RateLimitedError if nothing is left."""
        wait = self.limit.wait(name, now)
        if wait > 0:
            raise self.refusal(wait)

    def spend(self, name: str, now: float, number: int) -> None:
        """Count so many, or give them back."""
        self.limit.spend(name, now, number)
        if self._note is not None:
            self._note(self.name, self.limit, name, self.limit.cost(number))

    def refusal(self, wait: float) -> RateLimitedError:
        """What to raise, and count, when one more is allowed in so many seconds."""
        self._on_refused(self.name)
        seconds = math.ceil(wait)
        message = (
            f"Too many requests: {self._words} a minute. Wait {seconds} s{self._advice}, "
            f"or let the administrator of this server raise MSGCORE_RATE_{self.name.upper()}"
        )
        return RateLimitedError(message, retry_after=seconds, allowance=Allowance(self.limit.most, 0, WINDOW + wait))


class CallerLimits:
    """What somebody who is known may do of one kind: by themselves, and with all others of their project."""

    __slots__ = ("_now", "_of_project", "_own")

    def __init__(self, own: NamedLimit | None, of_project: NamedLimit | None, now: Callable[[], float]) -> None:
        self._own = own
        self._of_project = of_project
        self._now = now

    def admit(self, caller: Principal) -> Allowance | None:
        """Count a request; that of a key counts for its project too. Raises RateLimitedError.

        Returns what is left of the budget that is spent first, if there is any.
        """
        now, own, of_project, project_id = self._now(), self._own, self._of_project, caller.project_id
        left = None if own is None else own.limit.allowance(own.take(caller.id, now))
        if of_project is None or project_id is None:
            return left
        try:
            whole_in = of_project.take(project_id, now)
        except RateLimitedError:
            if own is not None:
                own.spend(caller.id, now, -1)
            raise
        return spent_first(left, of_project.limit.allowance(whole_in))

    def admit_person(self, project_id: str) -> Allowance | None:
        """Count a person's request for a project, once it is sure that it is theirs; what is left of its budget.

        Raises RateLimitedError.
        """
        if self._of_project is None:
            return None
        return self._of_project.limit.allowance(self._of_project.take(project_id, self._now()))


class RequestLimits:
    """All limits of a process. All that counts raises RateLimitedError."""

    def __init__(self, settings: Settings, clock: Clock, *, on_refused: OnRefused, note: Note | None = None) -> None:
        """`note` is told what is spent of budgets that are shared."""
        self._now = clock.monotonic

        def limit(name: str, words: str) -> NamedLimit | None:
            most: int = getattr(settings, f"rate_{name}")
            words = words.format(most)
            return NamedLimit(RateLimit(most), name, words, on_refused=on_refused, note=note) if most else None

        self.callers = {
            kind: CallerLimits(
                limit(f"key_{kind}", f"an API key or a person may {verb} {{}} times"),
                limit(f"project_{kind}", f"all callers of a project together may {verb} {{}} times"),
                self._now,
            )
            for kind, verb in _VERBS.items()
        }
        self._batched = limit("project_batched", "a project may send {} messages in batches")
        self._webhook = limit("webhook", "the platform may post to this address {} times")
        self._address = limit("address", "an address may make {} requests without a login")
        self._failures = limit("address_failures", "an address may fail to authenticate {} times")
        # Fingerprints, so that nobody finds a credential here.
        self._trusted: dict[int, None] = {}

    def admit_stranger(self, address: str) -> Allowance | None:
        """Count a request that needs no login; what is left, if there is a limit."""
        if self._address is None:
            return None
        return self._address.limit.allowance(self._address.take(address, self._now()))

    def admit_platform(self, token: str) -> None:
        """Count a request to a webhook's address."""
        if self._webhook is not None:
            # The token is a secret, may be as long as a path, and budgets have names that Redis shows.
            self._webhook.take(blake2b(token.encode(), digest_size=16).hexdigest(), self._now())

    # --- batches: how many messages they have is known when they are read, so they are counted afterwards

    def open_batch(self, project_id: str) -> None:
        """Refuse a batch while earlier ones used up the budget of messages."""
        if self._batched is not None:
            self._batched.check(project_id, self._now())

    def count_batch(self, project_id: str, messages: int) -> None:
        """So many messages of a batch were accepted."""
        if self._batched is not None:
            self._batched.spend(project_id, self._now(), messages)

    # --- who guesses

    def refuse_guesser(self, address: str, credential: str) -> None:
        """Refuse an address that failed too often, unless the credential worked here before.

        Others behind the same address (a proxy that is not trusted, say) so go on.
        """
        if self._failures is not None and hash(credential) not in self._trusted:
            self._failures.check(address, self._now())

    def failed(self, address: str, credential: str) -> None:
        """A credential was none; an empty one stands for a request without."""
        if self._failures is not None:
            self._trusted.pop(hash(credential), None)
            self._failures.spend(address, self._now(), 1)

    def worked(self, credential: str) -> None:
        """A credential was good."""
        if self._failures is not None:
            if len(self._trusted) >= _TRUSTED_CREDENTIALS:
                del self._trusted[next(iter(self._trusted))]
            self._trusted[hash(credential)] = None
