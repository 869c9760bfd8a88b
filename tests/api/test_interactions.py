"""Discord's interactions, posted to the API as Discord posts them."""

from __future__ import annotations

from typing import Any

import msgspec

from api.conftest import Running
from api.inbound import newest, next_events
from platforms.discord.facts import sign
from servers.api_client import Reply
from servers.deliveries import make_account
from servers.facts import samples_of

TOKEN = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs"
PUBLIC_KEY = "22556792c769dd97fb5e714d77ac76f6a4913470ef593bdead2429209b795ff5"
ACCOUNT = make_account("discord", {"token": TOKEN, "publicKey": PUBLIC_KEY})


def test_interactions_are_answered_at_once_and_become_events(running: Running) -> None:
    asked = {"platform": "discord", "name": "bot", "credentials": {**ACCOUNT.credentials, "gateway": False}}
    made = running.key.ask("POST", "projects/shop/platforms", asked).body
    path = made["webhookUrl"].partition("/api/v1/")[2]

    def post(interaction: Any, signed: Any = None) -> Reply:
        headers = sign(ACCOUNT, msgspec.json.encode(interaction if signed is None else signed))
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        return running.nobody.ask("POST", path, msgspec.json.encode(interaction), **named)

    after = newest(running)
    ping = {"type": 1, "id": "846462639134605312", "token": "t", "application_id": "1", "version": 1}
    assert (post(ping).status, post(ping).body) == (200, {"type": 1})
    assert post(ping, signed={**ping, "type": 2}).status == 401
    samples = {sample.name: sample.body for sample in samples_of("discord")}
    click, command = post(samples["click"]), post(samples["command"])
    assert (click.status, click.body, command.body["type"]) == (200, {"type": 6}, 4)
    pressed, given = next_events(running, after, 2)
    assert (pressed["event"], pressed["data"]["button_value"]) == ("button.clicked", "click_one")
    assert pressed["data"]["message_id"] == "345626669114982402:844397162624450620"
    assert (given["event"], given["data"]["text"]) == ("command.received", "/cardsearch cardname:The Gitrog Monster")
