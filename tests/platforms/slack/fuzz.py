"""What Slack says over Socket Mode (https://docs.slack.dev/apis/events-api/using-socket-mode), for the fuzz runs."""

from __future__ import annotations

from fuzz.live_targets import Talk
from servers.facts import samples_of

_EVENTS = [sample.body for sample in samples_of("slack") if sample.body is not None]

TALK = Talk(
    credentials={"appToken": "xapp-1-A111-111-xxx"},
    answers=(("apps.connections.open", {"ok": True, "url": "wss://wss-primary.slack.com/link/?ticket=x"}),),
    told=(
        {"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}, "debug_info": {"host": "x"}},
        *(
            {"type": "events_api", "envelope_id": f"e{number}", "payload": body, "accepts_response_payload": False}
            for number, body in enumerate(_EVENTS)
        ),
        {"type": "slash_commands", "envelope_id": "c1", "payload": {"command": "/x", "text": "y"}},
        {"type": "disconnect", "reason": "warning", "debug_info": {"host": "x"}},
    ),
)
