"""A person of a real homeserver writes to the gateway, is answered, and nothing is lost while the gateway is away."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from servers.gateway import PASSWORD, GatewayProcess
from servers.patience import PATIENCE
from servers.synapse import SynapseServer, User
from servers.webhook_sink import WebhookSink

EVENTS = ["message.received", "message.sent", "message.read", "reaction.added", "message.edited"]


def test_both_ways_and_over_a_restart(tmp_path: Path, synapse_server: SynapseServer) -> None:
    carol, desk = synapse_server.register("carol"), synapse_server.register("desk")
    with GatewayProcess(data_dir=tmp_path) as gateway, WebhookSink() as sink:
        key = gateway.set_up()
        credentials = {"homeserverUrl": synapse_server.url, "accessToken": desk.token, "autoJoin": True}
        platform_id = gateway.add_platform(key, "matrix", credentials)
        subscribe(gateway, sink)
        room = carol.create(desk, is_direct=True)
        asked = carol.write(room, "Is it blue?")
        [told] = wait_for_events(sink, 1)
        assert (told["text"], told["chat_id"], told["chat_type"]) == ("Is it blue?", room, "user")
        assert (told["user_id"], told["user_display"], told["provider_message_id"]) == (carol.id, "Carol", asked)

        send(gateway, key, {"platformId": platform_id, "type": "user", "id": carol.id}, "**Yes.**", replyTo=asked)
        answer = wait_for_event(carol, room, "Yes.")
        assert answer["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": asked}}
        react = {"platformId": platform_id, "messageId": asked, "emoji": "\U0001f44d"}
        gateway.call("POST", "/api/v1/projects/bench/messages/react", react, x_api_key=key)
        wait_for_event(carol, room, None, "m.reaction")

        gateway.kill(
            signal.SIGTERM
        )  # what a crash does is in tests/faults and tests/platforms/matrix; leases take time
        texts = [f"m{number}" for number in range(10)]
        for text in texts:
            carol.write(room, text)
        carol.ask("POST", f"rooms/{room}/receipt/m.read/{answer['event_id']}", {})
        gateway.start()
        wait_for_texts(sink, ["Is it blue?", *texts])
        carol.write(room, "last")
        wait_for_texts(sink, ["Is it blue?", *texts, "last"])
        read = wait_for_events(sink, 1, "message.read")
        assert [(each["provider_message_id"], each["user_id"]) for each in read] == [(answer["event_id"], carol.id)]
        assert desk.token not in gateway.log.read_text()


def subscribe(gateway: GatewayProcess, sink: WebhookSink) -> None:
    login = {"email": "bench@example.com", "password": PASSWORD}
    token = gateway.call("POST", "/api/v1/auth/login", login)["accessToken"]
    body = {"name": "hook", "url": sink.url(), "events": EVENTS, "isOrdered": True}
    gateway.call("POST", "/api/v1/projects/bench/webhooks", body, authorization=f"Bearer {token}")


def send(gateway: GatewayProcess, key: str, target: dict[str, Any], markdown: str, **options: Any) -> None:
    body = {"targets": [target], "content": {"markdown": markdown}, "options": options}
    gateway.call("POST", "/api/v1/projects/bench/messages/send", body, x_api_key=key)


def wait_for_event(user: User, room: str, text: str | None, kind: str = "m.room.message") -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while True:
        for event in user.events(room):
            if event["type"] == kind and event["content"].get("body") == text:
                return event
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for_events(sink: WebhookSink, number: int, kind: str = "message.received") -> list[dict[str, Any]]:
    """So many events, each once: the same one may be posted again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        posts = {post.headers["webhook-id"]: post.body for post in list(sink.taken)}
        found = [body["data"] for body in posts.values() if body["event"] == kind]
        if len(found) >= number:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def wait_for_texts(sink: WebhookSink, texts: list[str]) -> None:
    assert [each["text"] for each in wait_for_events(sink, len(texts))] == texts
