"""Stored secrets cannot be got out again, not by sending them elsewhere either."""

from __future__ import annotations

from typing import Any

from api.conftest import Running

MAIL = {
    "smtpHost": "mail.example.com",
    "smtpPort": 587,
    "smtpUser": "shop",
    "smtpPassword": "s3cret-password",
    "fromEmail": "shop@example.com",
}


def configure(running: Running, **more: Any) -> str:
    body = {"platform": "email", "name": "mail", "credentials": MAIL | more}
    made = running.key.ask("POST", "projects/shop/platforms", body)
    assert made.status == 201, made
    return str(made.body["id"])


def shown(running: Running, platform_id: str) -> dict[str, Any]:
    credentials: dict[str, Any] = running.key.ask("GET", f"projects/shop/platforms/{platform_id}").body["credentials"]
    return credentials


def test_every_value_is_masked(running: Running) -> None:
    credentials = shown(running, configure(running))
    assert set(credentials.values()) == {"*****"}
    assert credentials.keys() >= MAIL.keys()


def test_what_was_shown_can_be_sent_back(running: Running) -> None:
    platform_id = configure(running)
    changed = shown(running, platform_id) | {"fromName": "The Shop"}
    reply = running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"credentials": changed})
    assert reply.status == 200, reply
    assert "fromName" in shown(running, platform_id)


def test_a_masked_secret_does_not_go_to_another_server(running: Running) -> None:
    platform_id = configure(running)
    for moved in ({"smtpHost": "evil.example.com"}, {"smtpPort": 2525}, {"smtpTlsVerify": False}):
        given = shown(running, platform_id) | moved
        reply = running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"credentials": given})
        assert reply.status == 400, moved
        assert [error["pointer"] for error in reply.body["errors"]] == ["/credentials/smtpPassword"]
        assert next(iter(moved)) in reply.body["message"][0]
        anew = given | {"smtpPassword": "another-password"}
        assert running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"credentials": anew}).status == 200


def test_a_webhook_secret_stays_with_its_url(running: Running) -> None:
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    credentials = {"url": "https://example.com/hook", "secret": secret}
    body = {"platform": "webhook", "name": "hook", "credentials": credentials}
    platform_id = running.key.ask("POST", "projects/shop/platforms", body).body["id"]
    moved = {"url": "https://evil.example.com/", "secret": "*****"}
    reply = running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"credentials": moved})
    assert reply.status == 400
