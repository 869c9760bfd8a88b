"""Files that came with messages: what became of each."""

from __future__ import annotations

from enum import StrEnum


class AttachmentState(StrEnum):
    """Whether a file of a received message can be had."""

    PENDING = "pending"
    """It is still to be fetched."""
    STORED = "stored"
    REFUSED = "refused"
    """It may not be fetched or kept: too large, of a blocked type, or at an address that is not public."""
    FAILED = "failed"
    """It could not be had."""
    EXPIRED = "expired"
    """It was kept for as long as files are."""
