"""A short run over every parser of what outsiders send; the long one is `make test-fuzz`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from fuzz.growing import MOST, growth
from fuzz.mutation import variations
from fuzz.platform_targets import NOW, REGISTRY
from fuzz.runs import quick_run, quietly
from fuzz.target import Target
from fuzz.targets import all_targets
from msgcore.platforms.receiving import InboundRequest
from servers.facts import folder_of, has_facts, samples_of

TARGETS = all_targets()
GROWING = [pytest.param(target, piece, id=f"{target} {piece!r}") for target in TARGETS for piece in target.grows]
NAMES = [name for name in REGISTRY.names if has_facts(name)]
SHORT = 3_000
"""Characters; it is compared with eight times as many."""


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """What is left out is logged, which is not looked at here."""
    before = structlog.get_config()
    quietly()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_whatever_comes_is_read_or_refused(target: Target) -> None:
    quick_run(target)


@pytest.mark.parametrize("name", NAMES)
def test_each_value_that_is_posted_may_be_something_else(name: str) -> None:
    look = next(target.look for target in TARGETS if target.name == f"{name}: what it posts")
    for sample in samples_of(name):
        for body in variations(sample.content):
            look(InboundRequest("POST", sample.headers, sample.query, body, NOW))


@pytest.mark.parametrize(("target", "piece"), GROWING)
def test_the_time_grows_with_the_length_only(target: Target, piece: str) -> None:
    assert target.read is not None
    assert growth(target.read, piece, SHORT) < MOST


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_platform_reads_is_tried(name: str) -> None:
    adapter, tried = REGISTRY.adapter_class(name), {target.name for target in TARGETS}
    if adapter.inbound is not None:
        assert f"{name}: what it posts" in tried
        assert samples_of(name), f"tests/platforms/{folder_of(name).name}/samples has no sample of what it posts"
    if adapter.live is not None:
        where = f"tests/platforms/{folder_of(name).name}/fuzz.py"
        assert f"{name}: what it tells who listens" in tried, f"{where} has no TALK: what is told over its connection"
