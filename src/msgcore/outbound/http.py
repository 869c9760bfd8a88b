"""What adapters share about HTTP answers: reading them within bounds, Retry-After, what errors mean."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError

CHUNK = 65536

# aiohttp's errors that come before the request was written.
_NOT_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class TooLargeError(Exception):
    """A body is larger than its reader accepts."""


async def read_bounded(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """The body, of at most `largest` bytes.

    Raises TooLargeError as soon as it is larger; the connection is closed then, not drained.
    """
    parts: list[bytes] = []
    left = largest
    async for part in response.content.iter_chunked(CHUNK):
        left -= len(part)
        if left < 0:
            response.close()
            raise TooLargeError
        parts.append(part)
    return b"".join(parts)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3: seconds or a date), or None."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def as_delivery_error(error: aiohttp.ClientError | TimeoutError | OSError, host: str) -> DeliveryError:
    """What a failed exchange means for a delivery; `host` is named in the message."""
    if isinstance(error, aiohttp.InvalidURL):
        return PermanentError("url_invalid", f"{host} is not a valid host")
    if isinstance(error, _NOT_REACHED):
        return TemporaryError("connection_failed", f"Cannot connect to {host}: {_reason(error)}")
    if isinstance(error, TimeoutError):
        return TemporaryError("timeout", f"{host} did not answer in time", reached="maybe")
    return TemporaryError("connection_lost", f"The connection to {host} broke before it answered", reached="maybe")


def _reason(error: Exception) -> str:
    # The system's own words hold the resolved address; these do not.
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return "the name is not known"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not valid"
        case aiohttp.ClientConnectorSSLError():
            return "the TLS handshake failed"
        case _:
            return "refused or unreachable"
