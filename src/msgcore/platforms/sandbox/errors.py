"""What recipients of the sandbox fail with (`behaviours.py`), for the documentation and whoever asks."""

from __future__ import annotations

from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable

ERRORS = ErrorTable(
    (
        ErrorRule("sandbox_refused", Ending.PERMANENT, "The recipient was fail-permanent"),
        ErrorRule("sandbox_unauthenticated", Ending.AUTHENTICATION, "The recipient was auth-failure"),
        ErrorRule("sandbox_failed", Ending.TEMPORARY, "The recipient was fail-times-<n>"),
        ErrorRule("sandbox_throttled", Ending.THROTTLED, "The recipient was throttle-<duration>"),
        ErrorRule("platform_deleted", Ending.PERMANENT, "The sandbox platform was deleted before the message arrived"),
    )
)
