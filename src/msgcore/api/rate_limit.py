"""Rate limits at the API: which limit a request counts for, and what the answers tell of it.

The headers are those of the original, `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds), about the budget
that is spent first; a refusal has `Retry-After` too.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
from litestar.types import Message, Scope, Send

from msgcore.api.client_address import caller_group
from msgcore.api.errors import problem_body
from msgcore.api.request_id import request_id
from msgcore.core.errors import RateLimitedError, UnauthenticatedError
from msgcore.core.rate import Allowance, spent_first
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.request_limits import CallerLimits, Kind, RequestLimits

HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")

_COUNTED: Final = "msgcore.allowance"
_READS: Final = frozenset(("GET", "HEAD"))

Headers = list[tuple[bytes, bytes]]


class RateGate:
    """Counts each request once, whichever way it takes. Everything here raises RateLimitedError."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._sending = limits.callers[Kind.SENDING]

    def count_send(self, scope: Scope, caller: Principal) -> None:
        """A message to be sent, of a key."""
        self._count_caller(scope, self._sending, caller)

    def count_platform(self, scope: Scope, token: str) -> None:
        """A request to a webhook's address, of somebody who has not tried too many that there are not."""
        cast("dict[str, Any]", scope)[_COUNTED] = None
        self._limits.refuse_guesser(caller_group(scope), token)
        self._limits.admit_platform(token)

    def note_platform(self, scope: Scope, token: str, status: int) -> None:
        """Whether it was one, by the status of the answer: each invented one has a budget of its own."""
        if status == HTTPStatus.NOT_FOUND:
            self._limits.failed(caller_group(scope), token)
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:  # else nobody knows
            self._limits.worked(token)

    def count_stranger(self, scope: Scope) -> None:
        """A request that needs no login, unless it is counted as a platform's."""
        if _COUNTED in scope:
            return
        with _noting_refusal(scope) as kept:
            kept[_COUNTED] = self._limits.admit_stranger(caller_group(scope))

    def count_caller(self, scope: Scope, scopes: tuple[ApiScope, ...], caller: Principal) -> None:
        """A request of somebody who is known, before it is looked whether they may make it."""
        if _COUNTED not in scope:
            self._count_caller(scope, self._limits.callers[kind_of(scope, scopes)], caller)

    def count_person(self, scope: Scope, scopes: tuple[ApiScope, ...], caller: Principal, project_id: str) -> None:
        """The same request, for the project of a person who may make it; a key's is counted already."""
        if caller.project_id is None:
            with _noting_refusal(scope) as kept:
                of_project = self._limits.callers[kind_of(scope, scopes)].admit_person(project_id)
                kept[_COUNTED] = spent_first(kept.get(_COUNTED), of_project)

    def open_batch(self, scope: Scope, project_id: str) -> None:
        """A batch, before it is read."""
        with _noting_refusal(scope):
            self._limits.open_batch(project_id)

    def count_batch(self, project_id: str, messages: int) -> None:
        """So many messages of it were accepted."""
        self._limits.count_batch(project_id, messages)

    @contextmanager
    def guessing(self, scope: Scope, credential: str) -> Generator[None]:
        """Around an authentication: counts it for the address if it fails."""
        address = caller_group(scope)
        with _noting_refusal(scope):
            self._limits.refuse_guesser(address, credential)
        try:
            yield
        except UnauthenticatedError:
            self._limits.failed(address, credential)
            raise
        self._limits.worked(credential)

    def _count_caller(self, scope: Scope, limits: CallerLimits, caller: Principal) -> None:
        kept = cast("dict[str, Any]", scope)
        try:
            kept[_COUNTED] = limits.admit(caller)
        except RateLimitedError as error:
            kept[_COUNTED] = error.allowance
            raise


def kind_of(scope: Scope, scopes: tuple[ApiScope, ...]) -> Kind:
    """What a request counts as, by its method and what its handler asks for."""
    if scope["type"] != "http" or scope["method"] in _READS:
        return Kind.READING
    return Kind.SENDING if ApiScope.MESSAGES_WRITE in scopes else Kind.CHANGING


def allowance_headers(scope: Scope) -> Headers:
    """What the answer to a request that was counted tells of its limit."""
    allowance: Allowance | None = cast("dict[str, Any]", scope).get(_COUNTED)
    if allowance is None:
        return []
    return [
        (b"x-ratelimit-limit", b"%d" % allowance.most),
        (b"x-ratelimit-remaining", b"%d" % allowance.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(allowance.whole_in)),
    ]


async def send_allowance(message: Message, scope: Scope) -> None:
    """Litestar's `before_send` hook: adds these headers."""
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", ()), *allowance_headers(scope)]


async def refuse_request(scope: Scope, send: Send, problem: RateLimitedError) -> None:
    """Answer a request that the API need not see: a refusal must cost less than what it refuses."""
    body = msgspec.json.encode(problem_body(problem, request_id(scope)))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id(scope).encode()),
        (b"retry-after", b"%d" % math.ceil(problem.retry_after or 1)),
        *allowance_headers(scope),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@contextmanager
def _noting_refusal(scope: Scope) -> Generator[dict[str, Any]]:
    """Lets the answer to a refusal tell of the limit that refused."""
    kept = cast("dict[str, Any]", scope)
    try:
        yield kept
    except RateLimitedError as error:
        kept[_COUNTED] = error.allowance
        raise
