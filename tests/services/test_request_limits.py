"""Which budget a request is counted for, and who is refused when one is used up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from msgcore.config import Settings
from msgcore.core.errors import RateLimitedError
from msgcore.core.scopes import Principal
from msgcore.services.request_limits import Kind, RequestLimits
from servers.clock import FakeClock

KEY, OTHER_KEY = (Principal("api-key", name, project_id="shop") for name in ("key", "other"))
ANN = Principal("jwt", "ann")


class Limits:
    """Limits on a clock that stands still, and whom they refused."""

    def __init__(self, **rates: int) -> None:
        self.clock = FakeClock()
        self.refused: Counter[str] = Counter()
        self.all = RequestLimits(Settings(**rates), self.clock, on_refused=lambda name: self.refused.update([name]))

    def run(self, times: int, ask: Callable[[], Any]) -> int:
        """How many of so many requests got in."""
        let_in = 0
        for _ in range(times):
            try:
                ask()
            except RateLimitedError:
                continue
            let_in += 1
        return let_in


def test_each_kind_and_each_key_has_its_budget() -> None:
    limits = Limits(rate_key_sending=3, rate_key_reading=5, rate_key_changing=2)
    for caller in (KEY, OTHER_KEY, ANN):
        taken = {
            kind: limits.run(9, lambda kind=kind, who=caller: limits.all.callers[kind].admit(who)) for kind in Kind
        }
        assert taken == {Kind.SENDING: 3, Kind.READING: 5, Kind.CHANGING: 2}
    assert limits.refused == {"key_sending": 18, "key_reading": 12, "key_changing": 21}
    limits.clock.advance(20)
    assert limits.run(9, lambda: limits.all.callers[Kind.SENDING].admit(KEY)) == 1


def test_the_keys_and_people_of_a_project_share_its_budget() -> None:
    limits = Limits(rate_key_sending=4, rate_project_sending=6)
    sending = limits.all.callers[Kind.SENDING]
    assert limits.run(3, lambda: sending.admit(KEY)) == 3
    assert limits.run(1, lambda: sending.admit_person("shop")) == 1
    assert limits.run(9, lambda: sending.admit(OTHER_KEY)) == 2
    assert limits.run(9, lambda: sending.admit_person("shop")) == 0
    assert limits.run(9, lambda: sending.admit_person("another")) == 6
    limits.clock.advance(10)
    assert limits.run(1, lambda: sending.admit(OTHER_KEY)) == 1, "what the project refused is not the key's to pay"


def test_the_answer_tells_of_the_budget_that_is_spent_first() -> None:
    sending = Limits(rate_key_sending=10, rate_project_sending=20).all.callers[Kind.SENDING]
    for _ in range(8):
        assert sending.admit(OTHER_KEY)
    assert sending.admit(KEY) == (10, 9, pytest.approx(6)), "the project has 11 left"
    assert sending.admit(OTHER_KEY) == (10, 1, pytest.approx(54))
    assert sending.admit(Principal("api-key", "third", project_id="shop")) == (10, 9, pytest.approx(6))
    assert sending.admit(Principal("api-key", "fourth", project_id="shop")) == (20, 8, pytest.approx(36))
    even = Limits(rate_key_sending=2, rate_project_sending=3).all.callers[Kind.SENDING]
    even.admit_person("shop")
    assert even.admit(KEY) == (2, 1, pytest.approx(30)), "of two with one left, that which is whole sooner"
    assert even.admit_person("shop") == (3, 0, pytest.approx(60))
    off = Limits(rate_key_sending=0, rate_project_sending=0).all.callers[Kind.SENDING]
    assert off.admit(KEY) is None
    assert Limits(rate_project_sending=0).all.callers[Kind.SENDING].admit(KEY) == (60_000, 59_999, pytest.approx(0.001))


def test_a_refusal_says_which_limit_and_what_to_do() -> None:
    limits = Limits(rate_key_sending=1)
    sending = limits.all.callers[Kind.SENDING]
    sending.admit(KEY)
    with pytest.raises(RateLimitedError) as caught:
        sending.admit(KEY)
    assert (caught.value.retry_after, caught.value.allowance[:2]) == (30, (1, 0))
    for part in ("may send 1 times a minute", "Wait 30 s", "messages/batch", "MSGCORE_RATE_KEY_SENDING"):
        assert part in caught.value.message


def test_no_limit_is_reached_where_it_is_off() -> None:
    names = [name for name in Settings.model_fields if name.startswith("rate_") and "limit" not in name]
    limits = Limits(**dict.fromkeys(names, 0))
    for kind in Kind:
        assert limits.run(99, lambda kind=kind: limits.all.callers[kind].admit(KEY)) == 99
        assert limits.run(99, lambda kind=kind: limits.all.callers[kind].admit_person("shop")) == 99
    assert limits.run(99, lambda: limits.all.admit_platform("token")) == 99
    assert limits.run(99, lambda: limits.all.admit_stranger("192.0.2.1")) == 99
    limits.all.count_batch("shop", 10_000_000)
    limits.all.open_batch("shop")
    limits.all.failed("192.0.2.1", "wrong")
    limits.all.refuse_guesser("192.0.2.1", "wrong")


def test_a_batch_counts_as_its_messages() -> None:
    limits = Limits(rate_project_batched=600)
    limits.all.open_batch("shop")
    limits.all.count_batch("shop", 590)
    limits.all.open_batch("shop")
    limits.all.count_batch("shop", 400)
    assert limits.run(1, lambda: limits.all.open_batch("shop")) == 0
    limits.clock.advance(39)
    assert limits.run(1, lambda: limits.all.open_batch("shop")) == 0
    limits.clock.advance(1)
    assert limits.run(1, lambda: limits.all.open_batch("shop")) == 1


def test_who_guesses_is_refused_and_who_is_known_is_not() -> None:
    limits = Limits(rate_address_failures=3)
    limits.all.worked("good")
    for _ in range(3):
        limits.all.refuse_guesser("192.0.2.1", "wrong")
        limits.all.failed("192.0.2.1", "wrong")
    assert limits.run(1, lambda: limits.all.refuse_guesser("192.0.2.1", "another")) == 0
    assert limits.run(1, lambda: limits.all.refuse_guesser("192.0.2.2", "another")) == 1
    limits.all.refuse_guesser("192.0.2.1", "good")
    limits.all.failed("192.0.2.1", "good")  # it was revoked
    assert limits.run(1, lambda: limits.all.refuse_guesser("192.0.2.1", "good")) == 0
    assert limits.refused == {"address_failures": 2}
