"""What tests know of Matrix: a homeserver's answers, and the published description of its API."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from servers.facts import Facts, Throttle
from servers.http_sink import Request
from specs.matrix import check_request

ROOM = "!jEsUZKDJdhlrceRyVU:example.org"
EVENT = "$143273582443PhrSn:example.org"
ME = "@bot:example.org"
THUMB = "\U0001f44d"
ANSWERS: dict[str, Any] = {
    "sendMessage": {"event_id": "$YUwRidLecu:example.com"},
    "redactEvent": {"event_id": "$YUwQidLecu:example.com"},
    "getConfigAuthed": {"m.upload.size": 50_000_000},
    "uploadContent": {"content_uri": "mxc://example.com/AQwafuaFswefuhsfAFAgsw"},
    "getTokenOwner": {"user_id": ME},
    "getRelatingEventsWithRelTypeAndEventType": {
        "chunk": [
            {
                "event_id": f"${number}:example.org",
                "sender": sender,
                "type": "m.reaction",
                "content": {"m.relates_to": {"rel_type": "m.annotation", "event_id": EVENT, "key": key}},
            }
            for number, (sender, key) in enumerate(((ME, THUMB), (ME, "x"), ("@ann:example.org", THUMB)))
        ]
    },
}
NOT_FOUND = {"errcode": "M_NOT_FOUND", "error": "Event not found."}


def answers(request: Request) -> tuple[int, Any]:
    """As a homeserver answers that has a room without encryption."""
    if unquote(request.path).endswith("/state/m.room.encryption/"):
        return 404, NOT_FOUND
    return 200, ANSWERS.get(check_request(request), {})


def credentials(url: str) -> dict[str, Any]:
    """Of the server at this address."""
    return {"homeserverUrl": url}


LIMIT = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}
FACTS = Facts(
    target=ROOM,
    target_type="group",
    message_id=EVENT,
    answers=answers,
    check=check_request,
    credentials=credentials,
    throttles=(
        Throttle(429, LIMIT | {"retry_after_ms": 2500}, {"Retry-After": "3"}, seconds=2.5),
        Throttle(429, LIMIT, {"Retry-After": "7"}, seconds=7),
        Throttle(429, LIMIT, seconds=5),
        Throttle(429, LIMIT | {"retry_after_ms": 10**400}, seconds=86_400),
    ),
)
