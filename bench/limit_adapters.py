"""Adapters that call the platforms of `limit_server.py` as the platforms want to be called, and no more.

Each reads its platform's refusal into a `ThrottledError` of the right scope.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from msgcore.core.errors import PermanentError, Scope, ThrottledError
from msgcore.core.limits import Pace
from msgcore.platforms.base import (
    Account,
    Capability,
    CapabilityInfo,
    OutgoingDelivery,
    PlatformAdapter,
    PlatformDeclaration,
    SentReceipt,
)


def declare(name: str) -> PlatformDeclaration:
    """As much of a fact sheet as the dispatch core asks for."""
    return PlatformDeclaration(
        name=name,
        display_name=name,
        capabilities=(CapabilityInfo(Capability.SEND_MESSAGE),),
        credentials=(),
    )


class LimitedAdapter(PlatformAdapter):
    """Posts JSON; a child knows the path, the body and the refusal."""

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """See `PlatformAdapter`."""
        path, body = self.request(delivery)
        url: str = account.credentials["url"]
        answer = await self.services.http.request("POST", url + path, body=msgspec.json.encode(body))
        said: dict[str, Any] = msgspec.json.decode(answer.body or b"{}")
        if answer.status < 300:
            return self.receipt(answer.headers, said)
        throttled = self.refusal(answer.status, answer.headers, said)
        raise throttled or PermanentError("refused", f"the limit server answered {answer.status}")

    @abc.abstractmethod
    def request(self, delivery: OutgoingDelivery) -> tuple[str, dict[str, Any]]:
        """The path below the platform's address, and the body."""

    @abc.abstractmethod
    def refusal(self, status: int, headers: Mapping[str, str], said: dict[str, Any]) -> ThrottledError | None:
        """What an error means, if it means to wait."""

    def receipt(self, headers: Mapping[str, str], said: dict[str, Any]) -> SentReceipt:
        """What a success tells."""
        del headers, said
        return SentReceipt()


def throttled(seconds: float, scope: Scope) -> ThrottledError:
    """The platform asked to wait."""
    return ThrottledError("throttled", f"asked to wait {seconds} s", retry_after=seconds, scope=scope)


class TelegramAdapter(LimitedAdapter):
    """A refusal does not say which limit it was; that of the chat is what a paced bot could hit alone."""

    declaration: ClassVar[PlatformDeclaration] = declare("telegram")

    def request(self, delivery: OutgoingDelivery) -> tuple[str, dict[str, Any]]:
        """`sendMessage`."""
        return "/bot1:bench/sendMessage", {"chat_id": int(delivery.target.id), "text": delivery.content.text}

    def refusal(self, status: int, headers: Mapping[str, str], said: dict[str, Any]) -> ThrottledError | None:
        """`parameters.retry_after`."""
        del headers
        return throttled(said["parameters"]["retry_after"], Scope.LANE) if status == 429 else None


class DiscordAdapter(LimitedAdapter):
    """Tells the scope of a refusal by its `global` flag, and passes on what the headers say of the bucket."""

    declaration: ClassVar[PlatformDeclaration] = declare("discord")

    def request(self, delivery: OutgoingDelivery) -> tuple[str, dict[str, Any]]:
        """Create Message."""
        return f"/api/v10/channels/{delivery.target.id}/messages", {
            "content": delivery.content.text,
            "nonce": delivery.id[:25],
        }

    def receipt(self, headers: Mapping[str, str], said: dict[str, Any]) -> SentReceipt:
        """The message's id, and how many more the channel takes until when."""
        remaining, after = headers["X-RateLimit-Remaining"], headers["X-RateLimit-Reset-After"]
        return SentReceipt(said["id"], Pace(Scope.LANE, int(remaining), float(after)))

    def refusal(self, status: int, headers: Mapping[str, str], said: dict[str, Any]) -> ThrottledError | None:
        """`retry_after` with its decimals."""
        del headers
        scope = Scope.ACCOUNT if said.get("global") else Scope.LANE
        return throttled(said["retry_after"], scope) if status == 429 else None


class SlackAdapter(LimitedAdapter):
    """`chat.postMessage`: the only limit with a number is that of the channel."""

    declaration: ClassVar[PlatformDeclaration] = declare("slack")

    def request(self, delivery: OutgoingDelivery) -> tuple[str, dict[str, Any]]:
        """`chat.postMessage`."""
        return "/api/chat.postMessage", {"channel": delivery.target.id, "text": delivery.content.text}

    def refusal(self, status: int, headers: Mapping[str, str], said: dict[str, Any]) -> ThrottledError | None:
        """`Retry-After`."""
        del said
        return throttled(float(headers["Retry-After"]), Scope.LANE) if status == 429 else None


class WhatsAppAdapter(LimitedAdapter):
    """Goes by `error.code`, whatever the status."""

    declaration: ClassVar[PlatformDeclaration] = declare("whatsapp-cloud")
    REFUSALS: ClassVar[dict[int, tuple[float, Scope]]] = {130429: (1.0, Scope.ACCOUNT), 131056: (6.0, Scope.LANE)}

    def request(self, delivery: OutgoingDelivery) -> tuple[str, dict[str, Any]]:
        """Messages."""
        body = {
            "messaging_product": "whatsapp",
            "to": delivery.target.id,
            "type": "text",
            "text": {"body": delivery.content.text},
        }
        return "/v23.0/1/messages", body

    def refusal(self, status: int, headers: Mapping[str, str], said: dict[str, Any]) -> ThrottledError | None:
        """Nothing says for how long; a window of the limit that was hit is enough."""
        del status, headers
        known = self.REFUSALS.get(said["error"]["code"])
        return None if known is None else throttled(*known)


ADAPTERS: tuple[type[LimitedAdapter], ...] = (TelegramAdapter, DiscordAdapter, SlackAdapter, WhatsAppAdapter)
