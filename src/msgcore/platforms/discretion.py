"""What platforms say back is shown to people who may not see credentials: the secrets are taken out of their errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from msgcore.core.errors import DeliveryError
from msgcore.platforms.registry import PlatformRegistry

if TYPE_CHECKING:
    from msgcore.platforms.base import Account
    from msgcore.platforms.receiving import Inbound

MASK = "***"
SHORTEST = 4
"""Shorter secrets stay: they would hide ordinary words, and are none."""


@contextmanager
def discreet(account: Account) -> Generator[None]:
    """What is raised inside holds no secret of the account, however it came there."""
    try:
        yield
    except DeliveryError as error:
        error.message = without_secrets(account, error.message)
        error.args = (error.message,)
        raise


def without_secrets(account: Account, text: str) -> str:
    """A text with the account's secrets masked, in the spellings that HTTP has for them."""
    texts = {spelling for secret in _secrets_of(account) for spelling in _spellings(account, secret)}
    for spelling in sorted(texts, key=len, reverse=True):
        text = text.replace(spelling, MASK)
    return text


def _secrets_of(account: Account) -> Iterator[str]:
    for name in _secret_names(account.platform):
        value = account.credentials.get(name)
        if isinstance(value, str) and len(value) >= SHORTEST:
            yield value
    token = account.webhook_url.rpartition("/")[2]  # platforms are told the address, and post there as themselves
    if len(token) >= SHORTEST:
        yield token
    inbound = _inbound(account.platform)
    if inbound is not None:
        yield from inbound.secrets(account)


def _spellings(account: Account, secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    for user in account.credentials.values():  # basic authentication, with whichever field is the user
        if isinstance(user, str):
            yield base64.b64encode(f"{user}:{secret}".encode()).decode()


@cache
def _inbound(platform: str) -> Inbound | None:
    return PlatformRegistry().inbound(platform)


@cache
def _secret_names(platform: str) -> tuple[str, ...]:
    declarations = PlatformRegistry().declarations()
    return tuple(
        field.name for each in declarations if each.name == platform for field in each.credentials if field.secret
    )
