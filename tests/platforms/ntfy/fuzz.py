"""What ntfy streams (https://docs.ntfy.sh/subscribe/api/#subscribe-as-json-stream), for the fuzz runs."""

from __future__ import annotations

from fuzz.live_targets import Talk
from servers.facts import samples_of

_LINES = [sample.body for sample in samples_of("ntfy")]

TALK = Talk(credentials={"topics": "phil_alerts"}, told=sorted(_LINES, key=lambda line: line["event"] != "open"))
