"""Where a request comes from, and by which key: for the audit log, and for counting what keys are used for."""

from __future__ import annotations

from typing import Any, cast

from litestar.types import Scope

from msgcore.api.client_address import UNKNOWN, client_address
from msgcore.api.request_id import request_id
from msgcore.core.origin import Origin

_KEY = "msgcore.api_key_id"


def origin_of(scope: Scope) -> Origin:
    """The caller, what it calls itself, and the id of the request."""
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
    return Origin(address_of(scope), None if agent is None else agent.decode("latin-1"), request_id(scope))


def address_of(scope: Scope) -> str | None:
    """The client's address; a socket of the file system has none."""
    address = client_address(scope)
    return None if address == UNKNOWN else address


def note_key(scope: Scope, key_id: str) -> None:
    """The request is by this key, whether it may do what it asks for or not."""
    cast("dict[str, Any]", scope)[_KEY] = key_id


def noted_key(scope: Scope) -> str | None:
    """The key that a request is by, if it is by one."""
    return cast("dict[str, Any]", scope).get(_KEY)
