"""Texts that are compared with a secret: signatures of platforms, of logins, and of addresses."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench.timing_cases import (
    CLOCK,
    OTHERS,
    USER,
    Call,
    Group,
    at_once,
)
from msgcore.core.errors import ForbiddenError, UnauthenticatedError
from msgcore.platforms.receiving import SignatureError
from msgcore.security.links import AttachmentLinks
from msgcore.security.tokens import Tokens
from servers.signatures import PUBLIC, Proof, proofs, proofs_of_another


def naive(given: str, right: str) -> bool:
    """What must not be done: it returns at the first character that is wrong."""
    if len(given) != len(right):
        return False
    for one, other in zip(given, right, strict=True):  # noqa: SIM110 - each step is to be seen
        if one != other:
            return False
    return True


HALF = 0.5


@dataclass(frozen=True)
class Checker:
    """What compares a text with a secret: `almost` is the right text but for its end."""

    check: Callable[[str], Call]
    almost: str


def signatures() -> Iterator[Group]:
    """Of every platform that signs with a secret, as the registry has them; and what else is compared here."""
    for proof in proofs():
        if proof.platform not in PUBLIC:
            yield _crossed(f"webhook: {proof.name}", lambda proof=proof: _of_another(proof), SignatureError)
    yield _crossed("login (HS256)", _login)
    yield _crossed("address of a file", _address, ForbiddenError)
    yield replace(_crossed("planted: compared one by one", _careless), planted=True)


def _crossed(name: str, make: Callable[[], Checker], refusal: type[Exception] = UnauthenticatedError) -> Group:
    """Several of a kind, each with a secret of its own.

    The same texts are given to whom they are almost right for, and to others: nothing differs but how much is right.
    """
    checkers = [make() for _ in range(OTHERS)]

    def pair() -> tuple[Call, Call]:
        # Both are made, in either order, whichever is wanted: what was touched last is quicker by nanoseconds.
        one, other = random.sample(checkers, 2)
        if random.random() < HALF:
            near = one.check("".join(one.almost))
            return other.check("".join(one.almost)), near
        return other.check("".join(one.almost)), one.check("".join(one.almost))

    return Group(name, {"wrong everywhere": lambda: pair()[0], "right but for its end": lambda: pair()[1]}, refusal)


def _of_another(example: Proof) -> Checker:
    [proof] = [each for each in proofs_of_another(example.platform) if each.name == example.name]
    proof.verify(proof.right)  # else it would be refused for another reason

    def check(text: str) -> Call:
        request = proof.request(text)
        return at_once(proof.inbound.verify, proof.account, request)

    return Checker(check, proof.wrong_at(1))


def _login() -> Checker:
    tokens = Tokens(secrets.token_hex(32), CLOCK)
    token = tokens.issue(USER, email="a@example.com", is_admin=False, signed_in_at=CLOCK.now())
    tokens.read(token)
    return Checker(lambda text: at_once(tokens.read, text), _spoiled(token))


def _address() -> Checker:
    links = AttachmentLinks(secrets.token_hex(32), base_url="https://x", seconds=604_800, clock=CLOCK)
    expires, signed = links.url_of("17").partition("?expires=")[2].split("&signature=")
    links.check("17", int(expires), signed)
    return Checker(lambda text: at_once(links.check, "17", int(expires), text), _spoiled(signed))


def _careless() -> Checker:
    right = secrets.token_hex(32)

    def check(text: str) -> None:
        if not naive(text, right):
            raise UnauthenticatedError("wrong")

    return Checker(lambda text: at_once(check, text), _spoiled(right))


def _spoiled(text: str) -> str:
    """Wrong towards its end, where each character counts in base64 as well."""
    return text[:-2] + ("0" if text[-2] != "0" else "4") + text[-1]
