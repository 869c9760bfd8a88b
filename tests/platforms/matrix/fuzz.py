"""What a homeserver answers who follows rooms (https://spec.matrix.org/v1.18/client-server-api/#syncing), for the fuzz runs."""

from __future__ import annotations

from fuzz.live_targets import Talk
from servers.facts import samples_of

_ROOM, _BOT = "!jEsUZKDJdhlrceRyVU:example.org", "@bot:example.org"
_EVENTS = [sample.body["event"] for sample in samples_of("matrix") if "event" in sample.body]
_READ = {"type": "m.receipt", "content": {"$1": {"m.read": {"@ann:example.org": {"ts": 1}}}}}
_TYPES = {"type": "m.typing", "content": {"user_ids": ["@ann:example.org"]}}
_STATE = [{"type": "m.room.name", "state_key": "", "content": {"name": "Kitchen"}, "event_id": "$n", "sender": _BOT}]
_SYNC = {
    "next_batch": "s2",
    "account_data": {"events": [{"type": "m.direct", "content": {"@ann:example.org": ["!d:example.org"]}}]},
    "rooms": {
        "invite": {
            "!new:example.org": {
                "invite_state": {
                    "events": [
                        {
                            "type": "m.room.member",
                            "state_key": _BOT,
                            "sender": "@ann:example.org",
                            "content": {"membership": "invite", "is_direct": True},
                        }
                    ]
                }
            }
        },
        "join": {
            _ROOM: {
                "timeline": {"events": _EVENTS, "limited": True, "prev_batch": "t1"},
                "state": {"events": _STATE},
                "ephemeral": {"events": [_READ, _TYPES]},
            }
        },
        "leave": {"!left:example.org": {"timeline": {"events": _EVENTS[:2]}, "state": {"events": []}}},
    },
}

TALK = Talk(
    credentials={"userId": _BOT, "autoJoin": True},
    answers=(
        ("/whoami", {"user_id": _BOT}),
        ("/account_data/", {"@ann:example.org": ["!d:example.org"]}),
        ("/filter", {"filter_id": "1"}),
        ("/sync", _SYNC),
        ("/messages", {"chunk": _EVENTS[:3], "state": _STATE, "end": "t0"}),
        ("/event/", _EVENTS[0]),
        ("/state/", {"name": "Kitchen"}),
        ("/join", {"room_id": "!new:example.org"}),
    ),
)
