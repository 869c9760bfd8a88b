"""E-mail by SMTP (RFC 5321). Mails come in by IMAP (`live.py`), or as raw MIME over the webhook (`inbound.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from msgcore.core.content import TargetType
from msgcore.core.errors import FieldError, TemporaryError
from msgcore.core.limits import RateLimits
from msgcore.core.stop_words import MAILS
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    CredentialField,
    OutgoingDelivery,
    PlatformAdapter,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.email.addresses import EXAMPLE, wire_address
from msgcore.platforms.email.authenticity import AUTHENTICATION_SERVER
from msgcore.platforms.email.errors import ERRORS
from msgcore.platforms.email.imap_fields import IMAP_FIELDS, check_imap
from msgcore.platforms.email.inbound import SECRET, SHORTEST_SECRET, EmailInbound
from msgcore.platforms.email.live import EmailLive
from msgcore.platforms.email.pool import CONNECTIONS, Pools
from msgcore.platforms.email.render import SHOWS, UNSUBSCRIBE, EmailOptions, check_content, preview, render
from msgcore.platforms.email.unsubscribe import EXAMPLE as UNSUBSCRIBE_EXAMPLE
from msgcore.platforms.email.unsubscribe import LONGEST, RECIPIENT, check_unsubscribe

if TYPE_CHECKING:
    from msgcore.core.content import Content, SendOptions, Target
    from msgcore.outbound.attachments import LoadedAttachment
    from msgcore.outbound.rendering import Rendering
    from msgcore.outbound.services import AdapterServices

log = structlog.stdlib.get_logger(__name__)

ATTACHMENT_SECONDS = 30.0
"""For all files of a mail: ends before the core's limit for an attempt, after which the mail counts as maybe sent."""

DECLARATION = PlatformDeclaration(
    name="email",
    display_name="Email (SMTP)",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "content.subject is required"),
        CapabilityInfo(
            Capability.RECEIVE_MESSAGE,
            "By IMAP, with imapHost, or raw mails that a mail service posts, with inboundSecret",
        ),
        CapabilityInfo(
            Capability.ATTACHMENTS, "Most servers take 10 to 25 MB a mail; base64 makes files a third larger"
        ),
        CapabilityInfo(Capability.BUTTONS, "values cannot come back"),
    ),
    tells=(
        Capability.RECEIVE_ATTACHMENTS,
        Capability.RECEIVE_DELIVERED,
        Capability.RECEIVE_FAILED,
    ),
    credentials=(
        CredentialField(
            "smtpHost",
            "name or address of the SMTP server",
            destination=True,
            example="smtp.example.com",
            pattern=r"[^\s/@\\]+",
            max_length=253,
        ),
        CredentialField(
            "smtpPort",
            "usually 587 (STARTTLS), 465 (TLS) or 25",
            kind="integer",
            destination=True,
            example=587,
            minimum=1,
            maximum=65535,
        ),
        CredentialField(
            "smtpSecure",
            "true: TLS from the first byte; false: STARTTLS where the server offers it; unset: true on port 465",
            kind="boolean",
            required=False,
            destination=True,
            example=False,
        ),
        CredentialField(
            "smtpTlsVerify",
            "whether the server's certificate must be valid; unset: if there is a login or smtpSecure",
            kind="boolean",
            required=False,
            destination=True,
            example=True,
        ),
        CredentialField("smtpUser", "login; leave out where none is needed", required=False, example="me@example.com"),
        CredentialField("smtpPassword", "password of smtpUser", required=False, secret=True, example="app-password"),
        CredentialField("fromEmail", "address that mails come from", example="me@example.com", max_length=254),
        CredentialField("fromName", "name shown beside it", required=False, example="Example Ltd.", max_length=255),
        CredentialField(
            UNSUBSCRIBE,
            "how people get off your list, for List-Unsubscribe in each mail: https: and mailto: addresses with commas "
            f"between; {RECIPIENT} stands for the address of whoever gets the mail",
            required=False,
            example=UNSUBSCRIBE_EXAMPLE,
            max_length=LONGEST,
        ),
        CredentialField(
            SECRET,
            f"at least {SHORTEST_SECRET} characters, which whoever posts mails to the webhook must know; "
            "unset: nothing is received",
            required=False,
            secret=True,
            example="a long random text of your own",
            pattern=rf".{{{SHORTEST_SECRET},}}",
            max_length=255,
        ),
        CredentialField(
            AUTHENTICATION_SERVER,
            "name that your mail server gives itself in Authentication-Results; whom it lets pass DMARC counts as who "
            "they say they are. Unset: nobody does",
            required=False,
            example="mx.example.com",
            pattern=r"[^\s;\"()=]+",
            max_length=253,
        ),
        *IMAP_FIELDS,
    ),
    options=EmailOptions,
    limits=RateLimits(in_flight=CONNECTIONS),  # more would only queue for a connection while their time runs
    ordered=False,
    stop_words=MAILS,
    ignores_case=True,
    supports_webhooks=True,
)


class EmailAdapter(PlatformAdapter):
    """Renders a delivery as MIME and hands it to the account's SMTP server."""

    declaration = DECLARATION
    shows = SHOWS
    errors = ERRORS
    inbound = EmailInbound()
    live = EmailLive

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._pools = Pools(services.egress)

    @classmethod
    def check_credentials(cls, credentials: Mapping[str, Any]) -> list[FieldError]:
        """The sender is an address; user and password come together."""
        errors: list[FieldError] = []
        if wire_address(credentials["fromEmail"]) is None:
            errors.append(
                FieldError(
                    "/credentials/fromEmail", f"credentials.fromEmail must be an e-mail address such as {EXAMPLE}"
                )
            )
        for given, missing in (("smtpUser", "smtpPassword"), ("smtpPassword", "smtpUser")):
            if credentials.get(given) and not credentials.get(missing):
                errors.append(
                    FieldError(
                        f"/credentials/{missing}",
                        f"credentials.{missing} is required with {given}; leave out both where no login is needed",
                    )
                )
        errors += check_unsubscribe(f"/credentials/{UNSUBSCRIBE}", credentials.get(UNSUBSCRIBE) or "")
        return errors + check_imap(credentials)

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Mails go to one address."""
        if target.type is not TargetType.USER:
            return [FieldError("/target/type", f"target.type must be user for email, not {target.type.value}")]
        if wire_address(target.id) is None:
            return [FieldError("/target/id", f"target.id must be an e-mail address such as {EXAMPLE}")]
        return []

    @classmethod
    def check_content(cls, content: Content, options: SendOptions) -> list[FieldError]:
        """A subject, valid addresses, and no way to smuggle headers."""
        return check_content(content, options)

    @classmethod
    def render(cls, content: Content, options: SendOptions) -> Rendering:
        """Subject, text and HTML of a mail."""
        return preview(content, options)

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """Send one mail; the provider's id is its Message-ID, made from the delivery's id."""
        content = delivery.content
        pool = self._pools.of(account)
        async with pool.slot:
            files = await self._load_files(content)
            work = (account.credentials, delivery, files, self.services.clock.now())
            large = files or content.is_long()
            aside = self.services.long_texts.aside
            mail = await aside(account.project_id, render, *work) if large else render(*work)
            refused = await pool.send(mail)
        if refused:
            log.warning("email_copies_refused", delivery_id=delivery.id, platform_id=account.id, copies=refused)
        return SentReceipt(mail.message_id)

    async def _load_files(self, content: Content) -> list[LoadedAttachment]:
        try:
            async with asyncio.timeout(ATTACHMENT_SECONDS):
                return await self.services.attachments.load(content.attachments or ())
        except TimeoutError:
            raise TemporaryError(
                "attachment_timeout", f"The attachments could not be fetched within {ATTACHMENT_SECONDS:.0f} s"
            ) from None

    async def forget(self, account_id: str) -> None:
        """Close the connections of an account."""
        self._pools.forget(account_id)

    async def close(self) -> None:
        """Close all connections."""
        await self._pools.close()


ADAPTER = EmailAdapter
