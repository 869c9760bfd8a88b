"""Requests of Slack to envelopes: events, pressed buttons and slash commands, all to one address.

Socket Mode (`live.py`) brings the same, but as JSON throughout.

Sources: https://docs.slack.dev/apis/events-api, https://docs.slack.dev/reference/events,
https://docs.slack.dev/reference/interaction-payloads/block_actions-payload,
https://docs.slack.dev/interactivity/implementing-slash-commands
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from msgcore.core.envelope import Click, Command, Envelope, Person, shortened
from msgcore.platforms.receiving import (
    SHAPE_ERRORS,
    Inbound,
    InboundAnswer,
    InboundRequest,
    OversizedError,
    SignatureError,
    UnreadableError,
    read_object,
)
from msgcore.platforms.slack.events import Part, message_id, moment, place, read_event
from msgcore.platforms.slack.mrkdwn import read

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

SIGNATURE_HEADER = "x-slack-signature"
TIME_HEADER = "x-slack-request-timestamp"
WINDOW = 300
"""Seconds that a request may be old ("Verifying requests from Slack": five minutes)."""
LONGEST_TIME = 12
"""Digits of a time in seconds."""
LARGEST_FORM = 1024 * 1024
"""Bytes: a pressed button comes with its whole message, of up to 50 blocks with 3000 characters each."""
EMPTY = InboundAnswer(b"", "text/plain")
"""Whatever stands in an answer to a slash command is shown to the person who gave it."""

_NAMELESS = frozenset(("directmessage", "privategroup"))
"""What Slack calls conversations without a name."""


def sign(secret: str, at: str, body: bytes) -> str:
    """The signature of a request (https://docs.slack.dev/authentication/verifying-requests-from-slack)."""
    return "v0=" + hmac.digest(secret.encode(), b"v0:" + at.encode() + b":" + body, sha256).hex()


class SlackInbound(Inbound):
    """Events as JSON, everything else as forms."""

    signature = "X-Slack-Signature (v0), by the signing secret, over X-Slack-Request-Timestamp and the body"
    answer = EMPTY

    def verify(self, account: Account, request: InboundRequest) -> None:
        """By the app's signing secret."""
        secret = account.credentials.get("signingSecret")
        if not secret:
            raise SignatureError("the account has no signingSecret")
        at = request.headers.get(TIME_HEADER, "")
        if not (at.isascii() and at.isdigit() and len(at) <= LONGEST_TIME):
            raise SignatureError("X-Slack-Request-Timestamp is missing or no time")
        given = request.headers.get(SIGNATURE_HEADER, "")
        if not hmac.compare_digest(given.encode(), sign(secret, at, request.body).encode()):
            raise SignatureError("X-Slack-Signature is not that of the account's signingSecret")
        if abs(request.received_at.timestamp() - int(at)) > WINDOW:
            raise SignatureError("the request is more than five minutes old")

    def handshake(self, account: Account, request: InboundRequest) -> InboundAnswer | None:
        """The challenge of `url_verification`, and nothing for `ssl_check`."""
        del account
        beginning = request.body[:4096]
        # What people write may have either word in it, so each is looked for in its own kind of body only.
        if beginning.startswith(b"{"):
            if b"url_verification" in beginning:
                asked = read_object(request.body)
                if asked.get("type") == "url_verification":
                    return InboundAnswer(msgspec.json.encode({"challenge": asked.get("challenge")}))
        elif b"ssl_check=1" in beginning and _form(request.body).get("ssl_check") == "1":
            return EMPTY
        return None

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What a request tells; raises UnreadableError for what has not the documented shape."""
        del account
        try:
            return list(_envelopes(request.body))
        except SHAPE_ERRORS as error:
            raise UnreadableError(f"the request does not have the documented shape ({type(error).__name__})") from None


def _envelopes(body: bytes) -> Iterator[Envelope]:
    if body.startswith(b"{"):
        payload = read_object(body)
        if "command" in payload:
            yield _command(payload)
        elif payload["type"] == "event_callback":
            yield from read_event(payload)
        elif payload["type"] == "block_actions":
            yield from _clicks(payload)
        return
    form = _form(body)
    if "payload" in form:
        interaction = read_object(form["payload"].encode())
        if interaction["type"] == "block_actions":
            yield from _clicks(interaction)
    else:
        yield _command(form)


def _form(body: bytes) -> dict[str, str]:
    if len(body) > LARGEST_FORM:
        raise OversizedError(f"the form has more than {LARGEST_FORM} bytes")
    try:
        return {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}
    except ValueError:
        raise UnreadableError("the body is no form") from None


def _clicks(payload: Part) -> Iterator[Envelope]:
    """Pressed buttons with a value, and choices from menus; links that were opened have none."""
    author = _person(payload["user"]["id"], payload["user"].get("username") or payload["user"].get("name"))
    container: Part = payload.get("container") or {}
    channel: Part = payload.get("channel") or {}
    id_ = channel.get("id") or container.get("channel_id")
    message: Part = payload.get("message") or {}
    ts = container.get("message_ts") or message.get("ts")
    # A view has no conversation: then it is the one with the person.
    where = place(str(id_ or author.id), name=_named(channel.get("name")), kind=None if id_ else "im")
    raw = _without_secrets(payload)
    for action in payload["actions"]:
        option: Part = action.get("selected_option") or action
        value = option.get("value")
        if value is None:
            continue
        about: Part = option.get("text") or {}
        click = Click(value=value, message_id=message_id(id_, ts) if id_ and ts else None, label=about.get("text"))
        at = action["action_ts"]
        event_id = f"{payload.get('trigger_id') or author.id}:{at}:{action['action_id']}"[:255]
        yield Envelope(event_id=event_id, chat=where, content=click, author=author, occurred_at=moment(at), raw=raw)


def _command(form: Mapping[str, str]) -> Envelope:
    channel, trigger = form["channel_id"], form["trigger_id"]
    # A command is no message in Slack: it has the id of what it triggers.
    content = Command(
        id=message_id(channel, trigger), name=form["command"].removeprefix("/"), arguments=read(form.get("text", ""))
    )
    where = place(channel, name=_named(form.get("channel_name")))
    author = _person(form["user_id"], form.get("user_name"))
    return Envelope(event_id=trigger, chat=where, content=content, author=author, raw=_without_secrets(form))


def _without_secrets(payload: Part) -> dict[str, Any]:
    """Without the verification token, and without the address at which anybody may answer."""
    return {name: value for name, value in payload.items() if name not in ("token", "response_url")}


def _named(name: str | None) -> str | None:
    return None if name in _NAMELESS else name


def _person(id_: str, username: str | None) -> Person:
    return Person(id=id_, username=shortened(username))
