"""What the Bot API answers who polls (https://core.telegram.org/bots/api#getupdates), for the fuzz runs."""

from __future__ import annotations

from fuzz.live_targets import Talk
from servers.facts import samples_of

TALK = Talk(
    credentials={"polling": True},
    answers=(
        ("/getUpdates", {"ok": True, "result": [sample.body for sample in samples_of("telegram")][:4]}),
        ("/", {"ok": True, "result": True}),
    ),
)
