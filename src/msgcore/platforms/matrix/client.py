"""Requests to a homeserver (https://spec.matrix.org/v1.18/client-server-api/) in the name of one account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote, urlencode

import msgspec

from msgcore.core.clock import Clock
from msgcore.core.errors import AuthenticationError, TemporaryError
from msgcore.outbound.transport import LARGEST_ANSWER, Response, TooLargeError, Transport
from msgcore.platforms.answer_reader import AnswerReader
from msgcore.platforms.base import Account
from msgcore.platforms.matrix.errors import ERRORS, read_problem

NAME = "Matrix"
CLIENT = "_matrix/client/v3"
RELATIONS = MEDIA = "_matrix/client/v1"
UPLOAD = "_matrix/media/v3/upload"

Fields = Mapping[str, Any]
_NOTHING: Fields = {}


def mapping(value: Any) -> Fields:
    """The object that a field holds; an empty one for anything else, as users write what they like."""
    return cast("Fields", value) if isinstance(value, dict) else _NOTHING


def listed(value: Any) -> Sequence[Any]:
    """The list that a field holds; an empty one for anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else ()


def text(value: Any) -> str:
    """The text that a field holds; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def path(*parts: str) -> str:
    """The path of an endpoint below `CLIENT`; ids in it hold what has a meaning in a URL."""
    return "/".join((CLIENT, *(quote(part, safe="") for part in parts)))


class Homeserver:
    """A homeserver, as an account may use it. Each request raises a DeliveryError child where it fails."""

    def __init__(self, transport: Transport, account: Account, clock: Clock, *, seconds: float | None = None) -> None:
        """`seconds` bounds each exchange that is given no other time, where nobody else bounds them."""
        self._transport = transport
        self._seconds = seconds
        self._answers = AnswerReader(NAME, read_problem, ERRORS, clock)
        self.url = str(account.credentials["homeserverUrl"]).rstrip("/")
        self.headers = {"Authorization": f"Bearer {account.credentials['accessToken']}"}

    async def get(
        self,
        endpoint: str,
        query: Mapping[str, str] | None = None,
        *,
        largest: int = LARGEST_ANSWER,
        seconds: float | None = None,
    ) -> Fields:
        """What is at an endpoint. Raises TemporaryError too where it did not come whole."""
        asked = f"{endpoint}?{urlencode(query, quote_via=quote)}" if query else endpoint
        url, limit = f"{self.url}/{asked}", seconds or self._seconds
        async with self._transport.download(url, headers=self.headers, timeout=limit) as answer:
            try:
                body = await answer.read(largest)
            except (TooLargeError, TemporaryError):
                body = None
        return self._answers.read(Response(answer.status, answer.headers, body))

    async def send(self, method: str, endpoint: str, body: Any, *, seconds: float | None = None) -> Fields:
        """The answer to a request with a JSON body."""
        headers = {**self.headers, "Content-Type": "application/json"}
        answer = await self._transport.request(
            method,
            f"{self.url}/{endpoint}",
            headers=headers,
            body=msgspec.json.encode(body),
            timeout=seconds or self._seconds,
        )
        return self._answers.read(answer)

    async def upload(self, data: bytes, mime_type: str, filename: str) -> str:
        """Put a file into the media repository, where nobody sees it yet; its mxc: address."""
        headers = {**self.headers, "Content-Type": mime_type}
        asked = urlencode({"filename": filename}, quote_via=quote)
        answer = await self._transport.request("POST", f"{self.url}/{UPLOAD}?{asked}", headers=headers, body=data)
        return needed(self._answers.read(answer), "content_uri")

    async def whoami(self) -> str:
        """The user that the access token is of."""
        return needed(await self.get(path("account", "whoami")), "user_id")


def needed(answer: Fields, name: str) -> str:
    """A text that an answer has to have. Raises TemporaryError where it was lost on the way."""
    found = text(answer.get(name))
    if not found:
        # All that is asked for this way may be asked for again: transactions have ids.
        raise TemporaryError("answer_lost", f"{NAME}'s answer did not come as a whole", reached="maybe")
    return found


def same_user(given: str | None, found: str) -> str:
    """The user that the token is of, who is the one that was named. Raises AuthenticationError."""
    if given and given != found:
        raise AuthenticationError(
            "user_mismatch", f"The access token is of {found}, and userId is {given}: change one of the two"
        )
    return found
