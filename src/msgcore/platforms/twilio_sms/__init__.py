"""Short messages by Twilio (https://www.twilio.com/docs/messaging/api/message-resource)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from msgcore.core.errors import FieldError
from msgcore.core.limits import Budget, RateLimits
from msgcore.core.stop_words import SHORT_MESSAGES
from msgcore.outbound.rendering import Call
from msgcore.outbound.transport import Response
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    FileSource,
    OutgoingDelivery,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.calling import HttpCall, form_call
from msgcore.platforms.documents import find_objects, find_text
from msgcore.platforms.error_table import Problem
from msgcore.platforms.sms import SENDER, SmsAdapter
from msgcore.platforms.twilio_sms.errors import ERRORS, read_problem
from msgcore.platforms.twilio_sms.inbound import TwilioInbound
from msgcore.platforms.twilio_sms.render import LONGEST_WAIT, PLATFORM, SHOWS, TwilioSmsOptions, calls
from msgcore.security.addresses import is_seen_from_outside

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions
    from msgcore.core.envelope import File
    from msgcore.outbound.layout import Layout

BASE_URL = "https://api.twilio.com"
RECENT = 50
"""Messages to a recipient that are looked through for one that may have been taken."""
LARGEST_LIST = 1024 * 1024
CLOCKS_APART = timedelta(seconds=60)

DECLARATION = PlatformDeclaration(
    name=PLATFORM,
    display_name="Twilio SMS",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "Plain text"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "By webhook"),
        CapabilityInfo(Capability.ATTACHMENTS, "MMS, where sender and country know it"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_DELIVERED,
        Capability.RECEIVE_READ,
        Capability.RECEIVE_FAILED,
    ),
    credentials=(
        CredentialField(
            "accountSid",
            "the account's SID, AC and 32 hex digits",
            example="AC0123456789abcdef0123456789abcdef",
            pattern=r"AC[0-9a-fA-F]{32}",
        ),
        CredentialField(
            "authToken",
            "the account's auth token, which also signs Twilio's requests",
            secret=True,
            example="0123456789abcdef0123456789abcdef",
            max_length=64,
        ),
        CredentialField(
            "from",
            "the number or name that messages come from; needed without messagingServiceSid",
            required=False,
            example="+15017122661",
            pattern=SENDER,
        ),
        CredentialField(
            "messagingServiceSid",
            "the messaging service that chooses a sender, MG and 32 hex digits; with both, from is one of its senders",
            required=False,
            example="MG0123456789abcdef0123456789abcdef",
            pattern=r"MG[0-9a-fA-F]{32}",
        ),
    ),
    options=TwilioSmsOptions,
    supports_webhooks=True,
    # Twilio takes messages "at a rapid rate" and queues up to ten hours of them for each sender, which goes through
    # as many a second as its kind may: https://support.twilio.com/hc/en-us/articles/115002943027. A long code sends
    # one a second, so nothing is gained by giving it more for one recipient. It limits the requests at a time, and
    # does not say to how many (https://www.twilio.com/docs/api/errors/20429).
    limits=RateLimits(lane=(Budget(1, 1.0),), in_flight=25),
    stop_words=SHORT_MESSAGES,
)


class TwilioSmsAdapter(SmsAdapter):
    """Creates messages."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    inbound = TwilioInbound()

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """There is a sender."""
        if credentials.get("from") or credentials.get("messagingServiceSid"):
            return []
        message = "credentials.from or credentials.messagingServiceSid is required: a number or name, or a service"
        return [FieldError("/credentials/from", message)]

    @classmethod
    def calls(cls, content: Content, options: SendOptions, layout: Layout) -> Sequence[Call]:
        """See `render.py`."""
        del options
        return calls(content, layout)

    async def perform(self, account: Account, delivery: OutgoingDelivery, call: Call, key: str) -> SentReceipt:
        """Create one message; Twilio knows no idempotency keys, so `key` is not used."""
        del key
        fields: dict[str, Any] = {"To": delivery.target.id, **_sender(account), **call.body}
        left = self.seconds_left(delivery)
        if left is not None and left < fields.get("ValidityPeriod", LONGEST_WAIT):
            fields["ValidityPeriod"] = left
        if is_seen_from_outside(account.webhook_url):
            fields["StatusCallback"] = account.webhook_url
        form = form_call("POST", self._messages_url(account), _pairs(fields), _authorization(account))
        answer = await self.ask(form)
        return SentReceipt(find_text(answer.data, "sid"))

    def problem(self, answer: Response, data: Mapping[str, Any]) -> Problem | None:
        """See `errors.py`."""
        return read_problem(answer, data)

    async def find_sent(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt | None:
        """Look for the same text among what went to the recipient since the message was accepted."""
        sent_calls = (await self._rendering(account, delivery)).calls
        done = len(delivery.part_ids)
        query = urlencode({"To": delivery.target.id, "PageSize": RECENT})
        listing = HttpCall("GET", f"{self._messages_url(account)}?{query}", _authorization(account))
        answer = await self.ask(listing, largest=LARGEST_LIST)
        for message in find_objects(answer.data, "messages"):
            if _is_same(message, sent_calls[done], delivery):
                return SentReceipt(find_text(message, "sid"), more=done + 1 < len(sent_calls))
        return None

    async def locate_file(self, account: Account, file: File) -> FileSource:
        """At its address, which wants the account's login where that is set in Twilio's console."""
        source = await super().locate_file(account, file)
        return FileSource(source.url, self.media_headers(account, source.url))

    def media_headers(self, account: Account, url: str) -> Mapping[str, str]:
        """What a request for a file of a received message needs; the auth token is for Twilio's own addresses only."""
        theirs, asked = urlsplit(self.base_url(BASE_URL)), urlsplit(url)
        same = (asked.scheme, asked.netloc) == (theirs.scheme, theirs.netloc)
        return _authorization(account) if same else {}

    def _messages_url(self, account: Account) -> str:
        return f"{self.base_url(BASE_URL)}/2010-04-01/Accounts/{account.credentials['accountSid']}/Messages.json"


def _authorization(account: Account) -> dict[str, str]:
    """HTTP Basic, with the account's SID as the user."""
    pair = f"{account.credentials['accountSid']}:{account.credentials['authToken']}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _sender(account: Account) -> dict[str, str]:
    """A number of one's own, a service that chooses one, or that of the service's that is to be used."""
    given = {
        "From": account.credentials.get("from"),
        "MessagingServiceSid": account.credentials.get("messagingServiceSid"),
    }
    return {name: value for name, value in given.items() if value}


def _pairs(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a form: a list is a field for each, and truth is a word."""
    for name, value in fields.items():
        for each in value if isinstance(value, list) else (value,):  # pyright: ignore[reportUnknownVariableType]
            yield name, str(each).lower() if isinstance(each, bool) else str(each)  # pyright: ignore[reportUnknownArgumentType]


def _is_same(message: Mapping[str, Any], call: Call, delivery: OutgoingDelivery) -> bool:
    """Whether a message that Twilio has is the one that a call was to create."""
    created = _created(message)
    return (
        (find_text(message, "direction") or "").startswith("outbound")
        and (find_text(message, "body") or "") == call.body.get("Body", "")
        and find_text(message, "sid") not in delivery.part_ids
        and created is not None
        and created >= delivery.created_at - CLOCKS_APART
    )


def _created(message: Mapping[str, Any]) -> datetime | None:
    """When Twilio made a message; None where it does not say so in its way."""
    try:
        at = parsedate_to_datetime(find_text(message, "date_created") or "")
    except (ValueError, OverflowError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


ADAPTER = TwilioSmsAdapter
