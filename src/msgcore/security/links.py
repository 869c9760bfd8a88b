"""Addresses of files that are valid for a while, for whoever has them: signed with HMAC-SHA256 (RFC 2104).

They are made whenever something is shown, and never stored: what is shown later has later ones.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from msgcore.core.clock import Clock
from msgcore.core.errors import ForbiddenError

_PURPOSE = b"msgcore: addresses of attachments, version 1"
REMEDY = "ask for the message or its attachment again, which gives a new address"


class AttachmentLinks:
    """Makes and checks the addresses of attachments."""

    def __init__(self, secret: str, *, base_url: str, seconds: int, clock: Clock) -> None:
        """`secret` is the installation's; the key is derived from it, so that neither stands in for the other."""
        self._key = hmac.digest(secret.encode(), _PURPOSE, "sha256")
        self._base = f"{base_url}/api/v1/attachments/"
        self._lifetime = timedelta(seconds=seconds)
        self._clock = clock

    def expiry(self) -> datetime:
        """Until when an address is valid that is made now."""
        return (self._clock.now() + self._lifetime).replace(microsecond=0)

    def url_of(self, attachment_id: str, until: datetime | None = None) -> str:
        """The address of an attachment, valid until a moment, or for as long as they are."""
        expires = int((until or self.expiry()).timestamp())
        return f"{self._base}{attachment_id}?expires={expires}&signature={self._sign(attachment_id, expires)}"

    def check(self, attachment_id: str, expires: int, signature: str) -> int:
        """How many seconds an address is still valid. Raises ForbiddenError for one that is not, or was not made here.

        What it says is looked at only once it is known to be ours.
        """
        if not hmac.compare_digest(self._sign(attachment_id, expires).encode(), signature.encode()):
            raise ForbiddenError(f"The address is not one that this server made: {REMEDY}")
        left = expires - self._clock.now().timestamp()
        if left <= 0:
            raise ForbiddenError(f"The address has expired: {REMEDY}")
        return int(left)

    def refresh(self, data: dict[str, Any]) -> dict[str, Any]:
        """An event's data with addresses of now; the data itself is not changed."""
        found: list[dict[str, Any]] = data.get("attachments") or []
        if not any("id" in file for file in found):
            return data
        return data | {"attachments": [self._with_url(file) if "id" in file else file for file in found]}

    def refresh_event(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A whole event, as subscribers get it, likewise."""
        data = document.get("data")
        fresh = dict(document)
        return fresh | {"data": self.refresh(cast("dict[str, Any]", data))} if isinstance(data, dict) else fresh

    def _with_url(self, file: dict[str, Any]) -> dict[str, Any]:
        return file | {"url": self.url_of(file["id"])}

    def _sign(self, attachment_id: str, expires: int) -> str:
        mac = hmac.digest(self._key, f"{attachment_id}\n{expires}".encode(), "sha256")
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")
