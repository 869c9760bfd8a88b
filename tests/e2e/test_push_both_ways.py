"""A push goes out by a real ntfy server, and its pressed button and what others publish become events, each once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from e2e.test_mail_both_ways import as_admin, wait_until_connected
from servers.gateway import GatewayProcess
from servers.ntfy import NtfyServer, press
from servers.patience import PATIENCE

TOPIC = "e2e"


def test_pushes_go_out_and_answers_come_in_over_a_restart(tmp_path: Path, ntfy: NtfyServer) -> None:
    with GatewayProcess(data_dir=tmp_path) as gateway:
        key = gateway.set_up()
        platform_id = gateway.add_platform(key, "ntfy", {"serverUrl": ntfy.url, "topics": TOPIC})
        wait_until_connected(gateway)
        body = {
            "targets": [{"platformId": platform_id, "type": "channel", "id": TOPIC}],
            "content": {"subject": "Deploy", "text": "Ship it?", "buttons": [{"text": "Yes", "value": "ship"}]},
        }
        gateway.call("POST", "/api/v1/projects/bench/messages/send", body, x_api_key=key)
        [(kind, sent)] = events_of(gateway, 1)
        [message] = ntfy.messages(TOPIC)
        assert (message["title"], message["message"]) == ("Deploy", "Ship it?")
        id_ = f"{TOPIC}:{message['sequence_id']}"
        assert (kind, sent["provider_message_id"]) == ("message.sent", id_)
        press(message["actions"][0])
        events_of(gateway, 2)
        ntfy.publish(TOPIC, "one")
        events_of(gateway, 3)
    ntfy.publish(TOPIC, "two")
    with GatewayProcess(data_dir=tmp_path) as gateway:
        events_of(gateway, 4)
        ntfy.publish(TOPIC, "three")
        _, (kind, click), *received = events_of(gateway, 5)
        assert (kind, click["provider_message_id"], click["button_value"]) == ("button.clicked", id_, "ship")
        assert [(kind, data["chat_id"], data["text"]) for kind, data in received] == [
            ("message.received", TOPIC, text) for text in ("one", "two", "three")
        ], "what comes twice is told once"


def events_of(gateway: GatewayProcess, count: int) -> list[tuple[str, dict[str, Any]]]:
    """The project's events, once there are so many."""
    found: list[tuple[str, dict[str, Any]]] = []
    after, deadline = 0, time.monotonic() + PATIENCE
    while len(found) < count:
        page = as_admin(gateway, "GET", f"/events?after={after}&wait=1")
        after = page["next"]
        found += [(event["event"], event["data"]) for event in page["events"]]
        assert time.monotonic() < deadline, gateway.tail()
    return found
