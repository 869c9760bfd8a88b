"""All parsers of what outsiders send."""

from __future__ import annotations

from fuzz import api_targets, platform_targets, text_targets, token_targets
from fuzz.target import Target


def all_targets() -> list[Target]:
    """Those of each platform, and those that all have in common."""
    parts = (platform_targets, text_targets, token_targets, api_targets)
    return [target for part in parts for target in part.targets()]
