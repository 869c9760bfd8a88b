"""Previews: what each platform would get, and nothing sent."""

from __future__ import annotations

from typing import Any

from api.conftest import Running
from api.inbound import add_sandbox, ask, make_project

TOKEN = "123456789:AAExampleExampleExampleExampleExam"
SMS = {"accountSid": f"AC{'0' * 32}", "authToken": "0" * 32, "from": "+15017122661"}
MAIL = {"smtpHost": "smtp.example.com", "smtpPort": 587, "fromEmail": "me@example.com"}


def add(running: Running, project: str, platform: str, credentials: dict[str, Any]) -> str:
    body = {"platform": platform, "name": platform, "credentials": credentials}
    return ask(running, project, "POST", "/platforms", body)["id"]


def test_each_platform_shows_what_it_would_get(running: Running) -> None:
    project = make_project(running)
    telegram = add(running, project, "telegram", {"token": TOKEN})
    email, sandbox = add(running, project, "email", MAIL), add_sandbox(running, project)
    body = {
        "targets": [
            {"platformId": telegram, "type": "user", "id": "1"},
            {"platformId": telegram, "type": "user", "id": "2"},
            {"platformId": email, "type": "user", "id": "bob@example.com"},
            {"platformId": sandbox, "type": "user", "id": "bob"},
        ],
        "content": {
            "subject": "News",
            "markdown": "**bold** & more",
            "attachments": [{"data": "QUJDRA==", "filename": "a.txt"}],
            "buttons": [{"text": "Yes", "value": "y" * 65}],
        },
    }
    previews = {each["platform"]: each for each in ask(running, project, "POST", "/messages/preview", body)["previews"]}
    assert [target["id"] for target in previews["telegram"]["targets"]] == ["1", "2"]
    [call] = previews["telegram"]["calls"]
    assert call["method"] == "sendDocument"
    assert call["body"]["caption"] == "<b>News</b>\n\n<b>bold</b> &amp; more\n\n1. Yes"
    assert call["files"] == [{"filename": "a.txt", "mimeType": None, "url": None, "size": 4}]
    rules = [(each["field"], each["rule"]) for each in previews["telegram"]["degradations"]]
    assert rules == [("content.subject", "first-line"), ("content.buttons", "numbered-list")]
    [mail] = previews["email"]["calls"]
    assert (mail["method"], mail["body"]["subject"]) == ("mail", "News")
    assert "<strong>bold</strong> &amp; more" in mail["body"]["html"]
    assert previews["sandbox"]["calls"][0]["body"]["markdown"] == "**bold** & more"
    assert TOKEN not in str(previews)
    assert ask(running, project, "GET", "/messages/sent")["messages"] == []


def test_what_sending_refuses_is_refused(running: Running) -> None:
    project = make_project(running)
    telegram = add(running, project, "telegram", {"token": TOKEN})
    target = {"platformId": telegram, "type": "user", "id": "1"}
    body = {"targets": [target], "content": {"text": "x " * 3000}, "options": {"longText": "refuse"}}
    reply = running.admin.ask("POST", f"projects/{project}/messages/preview", body)
    assert reply.status == 400
    assert [error["pointer"] for error in reply.body["errors"]] == ["/content"]


def test_what_only_some_platforms_refuse_is_told_with_their_names(running: Running) -> None:
    project = make_project(running)
    accounts = [
        (add(running, project, "telegram", {"token": TOKEN}), "1"),
        (add(running, project, "twilio-sms", SMS), "+15558675310"),
        (add_sandbox(running, project), "bob"),
    ]
    targets = [{"platformId": account, "type": "user", "id": id_} for account, id_ in accounts]

    def refused(content: dict[str, Any], targets: list[dict[str, Any]] = targets) -> list[str]:
        body = {"targets": targets, "content": content, "options": {"longText": "refuse"}}
        reply = running.admin.ask("POST", f"projects/{project}/messages/preview", body)
        assert reply.status == 400
        return reply.body["message"]

    too_long = "the text is longer than one message takes"
    assert refused({"text": "x" * 5000}) == [
        f"{too_long} (4096); options.longText refuses to split it (telegram)",
        f"{too_long} (1600); options.longText refuses to split it (twilio-sms)",
    ]
    assert "(" not in refused({"text": "x" * 5000}, targets[:1])[0].removeprefix(f"{too_long} (4096)")
    assert refused({"attachments": [{}]}) == ["content.attachments[0] must have exactly one of url and data"]
    known = "protectContent, disableLinkPreview, messageEffectId, buttonsPerRow"
    assert refused({"text": "x", "platformOptions": {"telegram": {"silent": True}}}) == [
        f"content.platformOptions.telegram.silent is not an option of telegram; its options are: {known}"
    ]
