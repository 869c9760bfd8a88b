"""What each platform's code reads of the outside: webhooks, signatures, answers, and what live connections are told.

All of it comes from the registry, from `tests/platforms/<name>/facts.py` and its samples; a platform that listens has a
`fuzz.py` there beside them, with what is told over its connection.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from fuzz.answer_targets import answers_target
from fuzz.live_targets import Talk, live_target
from fuzz.mutation import ODD_TEXTS, bodies_like, queries, spliced
from fuzz.stored import check_all, check_text
from fuzz.target import Target
from msgcore.core.ids import new_id
from msgcore.inbound.recording import LONGEST_REASON, read
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import Inbound, InboundAnswer, InboundRequest, SignatureError, UnreadableError
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store.inbound import RawRequest
from servers.deliveries import make_account
from servers.facts import Facts, Sample, facts_of, folder_of, has_facts, http_facts, samples_of

REGISTRY = PlatformRegistry()
NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
_LATIN = [text for text in ODD_TEXTS if len(text) < 2000 and all(ord(character) < 256 for character in text)]


def account_of(name: str, **credentials: Any) -> Account:
    """An account with the credentials that the declaration gives as examples."""
    fields = REGISTRY.declaration(name).credentials
    given = {field.name: field.example for field in fields if field.example is not None}
    return make_account(name, given | credentials, webhook_url=f"https://msgcore.example/api/v1/webhooks/{name}/t")


def targets() -> Iterator[Target]:
    """Those of all platforms."""
    spoken_to = http_facts(REGISTRY)
    for name in filter(has_facts, REGISTRY.names):
        adapter, facts = REGISTRY.adapter_class(name), facts_of(name)
        if adapter.inbound is not None:
            yield reading_target(name, adapter.inbound)
            yield entry_target(name, adapter.inbound, facts)
            if facts.sign is not None:
                yield signature_target(name, adapter.inbound, facts)
        if name in spoken_to:
            yield answers_target(
                name, adapter, account_of(name, **facts.credentials("https://platform.example")), facts
            )
        own = own_targets(name)
        yield from own.get("TARGETS", ())
        if "TALK" in own and adapter.live is not None:
            talk: Talk = own["TALK"]
            yield live_target(name, adapter, account_of(name, **talk.credentials), talk)


def own_targets(name: str) -> dict[str, Any]:
    """What a platform's `fuzz.py` says; nothing where there is none."""
    if not (folder_of(name) / "fuzz.py").is_file():
        return {}
    return vars(importlib.import_module(f"platforms.{folder_of(name).name}.fuzz"))


# --- webhooks


def requests(name: str) -> st.SearchStrategy[InboundRequest]:
    """What a platform could post, all of it like its samples."""
    samples = samples_of(name)
    return _requests(st.sampled_from(samples), bodies_like([each.content for each in samples]))


@st.composite
def _requests(draw: Any, samples: st.SearchStrategy[Sample], bodies: st.SearchStrategy[bytes]) -> InboundRequest:
    like = draw(samples)
    headers = {key.lower(): value for key, value in like.headers.items()}
    if headers and draw(st.integers(0, 7)) == 0:
        headers[draw(st.sampled_from(sorted(headers)))] = draw(st.sampled_from(_LATIN))
    method = draw(st.sampled_from(("POST", "POST", "POST", "GET")))
    return InboundRequest(method, headers, queries(draw, like.query), draw(bodies), NOW)


def reading_target(name: str, inbound: Inbound) -> Target:
    """A request that was stored, and is read: what comes of it can be stored, and nothing in it loses the rest."""
    adapter, account = REGISTRY.adapter_class(name), account_of(name)

    def look(request: InboundRequest) -> None:
        raw = RawRequest(
            new_id(), "demo", account.id, name, request.headers, request.query, request.body, request.received_at
        )
        [reading] = read(adapter, inbound, account, [(1, raw)])
        check_text(reading.error or "", LONGEST_REASON)
        assert not (reading.error or "").startswith("the reader failed"), reading.error
        assert not (reading.error and reading.occurrences)
        check_all(reading.occurrences)

    return Target(f"{name}: what it posts", requests(name), look)


def entry_target(name: str, inbound: Inbound, facts: Facts) -> Target:
    """A request as it comes: refused unless it is signed; one that is, is answered or refused, and never an error."""
    account = account_of(name)
    takes_anybody = _is_taken(inbound, account, InboundRequest("POST", {}, "", b"{}", NOW))

    def look(given: tuple[InboundRequest, dict[str, str]]) -> None:
        request, headers = given
        assert _is_taken(inbound, account, replace(request, headers=headers)) <= takes_anybody
        try:
            answer = inbound.handshake(account, request)
            if answer is None:
                inbound.check(account, request)
        except UnreadableError as error:
            _check_problem(error)
            return
        for each in (answer, inbound.reply(request)):
            assert each is None or (isinstance(each, InboundAnswer) and isinstance(each.body, bytes))

    names = ["authorization", "webhook-signature", "webhook-id", "webhook-timestamp"]
    if facts.sign is not None:
        names = sorted(facts.sign(account, samples_of(name)[0].content))
    headers = st.dictionaries(
        st.sampled_from([each.lower() for each in names]), st.sampled_from(_LATIN) | st.just("1778068800")
    )
    return Target(f"{name}: who may post", st.tuples(requests(name), headers), look)


def _check_problem(error: UnreadableError) -> None:
    assert 400 <= error.problem.status < 500
    check_text(str(error).replace("\0", ""), 2000)


def _is_taken(inbound: Inbound, account: Account, request: InboundRequest) -> bool:
    try:
        inbound.verify(account, request)
    except (SignatureError, UnreadableError) as error:
        check_text(str(error), 2000)
        return False
    return True


def signature_target(name: str, inbound: Inbound, facts: Facts) -> Target:
    """A request with something changed that is signed: it is refused."""
    account, sign = account_of(name), facts.sign
    assert sign is not None
    bodies = [sample.content for sample in samples_of(name)]

    def signed(body: bytes) -> dict[str, str]:
        return {key.lower(): value for key, value in sign(account, body).items()}

    def look(data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(bodies))
        headers = signed(body)
        assert _is_taken(inbound, account, InboundRequest("POST", headers, "", body, datetime.now(UTC)))
        if data.draw(st.booleans()):
            other = spliced(data.draw, body)
            try:
                is_covered = signed(other) != signed(body)
            except ValueError:  # the platform would not send it, and it may say the same
                is_covered = False
            taken = _is_taken(inbound, account, InboundRequest("POST", headers, "", other, datetime.now(UTC)))
            assert not taken or other == body or not is_covered
            return
        changed = dict(headers)
        key = data.draw(st.sampled_from(sorted(headers)))
        changed[key] = _other(data.draw, headers[key])
        taken = _is_taken(inbound, account, InboundRequest("POST", changed, "", body, datetime.now(UTC)))
        assert not taken, changed

    return Target(f"{name}: signatures", st.data(), look)


def _other(draw: Any, value: str) -> str:
    """Another value: longer, shorter, or with another character in it."""
    match draw(st.integers(0, 3)):
        case 0:
            return value[: draw(st.integers(0, max(0, len(value) - 3)))]
        case 1:
            # In front: what stands behind the end of base64 is passed over by some libraries, and forges nothing.
            return draw(st.sampled_from(("9", "A", "99", value))) + value
        case 2 if len(value) > 2:
            at = draw(st.integers(0, len(value) - 3))  # of the last character of base64 some bits stand for nothing
            instead = "1" if value[at] != "1" else "2"
            return value[:at] + instead + value[at + 1 :]
        case _:
            return draw(st.sampled_from([text for text in _LATIN if text != value]))
