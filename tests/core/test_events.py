"""Events that can be subscribed to."""

from __future__ import annotations

from pathlib import Path

from msgcore.core.events import DESCRIPTIONS, EventType

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


def test_the_guide_describes_every_event() -> None:
    table = "".join(f"| `{name}` | {DESCRIPTIONS[name]} |\n" for name in EventType)
    assert table in PAGE.read_text(encoding="utf-8"), f"paste into docs/webhooks.md:\n{table}"
