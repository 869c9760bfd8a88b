"""Existing clients find every field that they know: a walk of the compatible API's recorded answers."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from servers.gateway import GatewayProcess, free_port
from servers.patience import PATIENCE

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "specs" / "contract-shapes.json").read_text(encoding="utf-8")
)

NOTHING_YET = {"webhook routes": {"routes": []}}
"""No platform receives yet, so this list is rightly empty."""

REFUSED = {"key invalid scope": "scopes", "send empty targets": "targets", "send empty content": "content"}
"""What the recorded server took although it is plainly wrong, and the field that ours names."""

NULLABLE = {"errorMessage", "sentAt", "providerMessageId", "expiresAt"}
"""Present always, null where there is nothing to tell; the records show both."""

JSON_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "num": (int, float), "bool": (bool,)}
JAVASCRIPT_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class MailServer:
    """Takes any login and every mail, except for one recipient."""

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.startswith("nobody"):
            return "550 No such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        return "250 OK"


@pytest.fixture
def smtp_port() -> Iterator[int]:
    def authenticate(*_args: Any) -> AuthResult:
        return AuthResult(success=True)

    controller = Controller(
        MailServer(), hostname="127.0.0.1", port=free_port(), authenticator=authenticate, auth_require_tls=False
    )
    controller.start()
    yield controller.port
    controller.stop()


class Walk:
    """The requests in their recorded order, with the ids of what was made on the way."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._headers: dict[str | None, dict[str, str]] = {None: {}}
        self.ids: dict[str, str] = {}

    def ask(self, entry: dict[str, Any]) -> tuple[int, Any]:
        about = "key" if entry["name"].startswith("key ") else "platform"
        meant = {"identities/{id}": "identity", "aliases/{id}": "alias"}  # every other one is what it is about

        def filled(text: str) -> str:
            for place, kind in meant.items():
                text = text.replace(place, place.replace("{id}", self.ids.get(kind, "")))
            return text.replace("{id}", self.ids.get(about, "")).replace("{jobId}", self.ids.get("job", ""))

        body = None if entry["body"] is None else filled(json.dumps(entry["body"])).encode()
        request = urllib.request.Request(
            self._gateway.url + filled(entry["path"]),
            data=body,
            method=entry["method"],
            headers=self._headers[entry["auth"]] | ({} if body is None else {"content-type": "application/json"}),
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, found = answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        self._remember(entry["name"], found)
        return status, found

    def _remember(self, name: str, answer: Any) -> None:
        match name:
            case "signup" | "login":
                self._headers["jwt"] = {"authorization": f"Bearer {answer['accessToken']}"}
            case "key create":
                self._headers["key"] = {"x-api-key": answer["key"]}
            case "key create expiring" | "key roll":
                self.ids["key"] = answer["id"]
            case "platform create":
                self.ids["platform"] = answer["id"]
            case "identity create":
                self.ids["identity"] = answer["id"]
            case "identity alias add":
                self.ids["alias"] = answer["id"]
            case "send":
                self.ids["job"] = answer["jobId"]
            case _:
                pass

    def finish_job(self) -> None:
        entry = next(entry for entry in RECORDED if entry["name"] == "status")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.ask(entry)[1]["state"] in {"completed", "failed"}:
                return
            time.sleep(0.02)
        raise AssertionError("the message was not sent")


def differences(shape: Any, answer: Any, place: str = "") -> Iterator[str]:
    """What a client of the recorded answer would miss. More fields are fine."""
    match shape:
        case dict():
            for name, inner in shape.items():
                if not isinstance(answer, dict) or name not in answer:
                    yield f"{place}/{name} is missing"
                elif name == "credentials" and "required" in inner:
                    yield from _credential_differences(answer[name], f"{place}/{name}")
                elif not (name in NULLABLE and answer[name] is None):
                    yield from differences(inner, answer[name], f"{place}/{name}")
        case [inner]:
            if not isinstance(answer, list) or not answer:
                yield f"{place} is {answer!r}, not a filled list"
                return
            for index, item in enumerate(answer):
                yield from differences(inner, item, f"{place}/{index}")
        case []:
            if not isinstance(answer, list):
                yield f"{place} is {answer!r}, not a list"
        case "null":
            pass
        case _:
            if not isinstance(answer, JSON_TYPES[shape]) or (shape == "num" and isinstance(answer, bool)):
                yield f"{place} is {answer!r}, not {shape}"
            elif place.endswith(("At", "timestamp")) and not JAVASCRIPT_TIME.fullmatch(answer):
                yield f"{place} is {answer!r}, not a time as JavaScript prints it"


def _credential_differences(answer: Any, place: str) -> Iterator[str]:
    """Which fields these are depends on the platform; one may need none."""
    for name, kind in (("required", list), ("optional", list), ("example", dict)):
        if not isinstance(answer.get(name), kind):
            yield f"{place}/{name} is {answer.get(name)!r}"


def check(walk: Walk, entry: dict[str, Any]) -> list[str]:
    name = entry["name"]
    status, answer = walk.ask(entry)
    if name in REFUSED:
        named = any(REFUSED[name] in error["pointer"] for error in answer["errors"])
        return [] if (status, named) == (400, True) else [f"answered {status}: {answer}"]
    if status != entry["status"]:
        return [f"answered {status}, not {entry['status']}: {answer}"]
    return list(differences(NOTHING_YET.get(name, entry["shape"]), answer))


def test_every_recorded_field_is_there(smtp_port: int) -> None:
    problems: dict[str, list[str]] = {}
    with GatewayProcess() as gateway:
        walk = Walk(gateway)
        for recorded in RECORDED:
            entry = json.loads(json.dumps(recorded))
            match entry["name"]:
                case "platform create":
                    entry["body"]["credentials"]["smtpPort"] = smtp_port
                case "status":
                    walk.finish_job()
                case "logs stats":
                    send = next(json.loads(json.dumps(e)) for e in RECORDED if e["name"] == "send")
                    send["body"]["targets"][0]["id"] = "nobody@example.com"
                    assert walk.ask(send)[0] == 201
                    walk.finish_job()
                case _:
                    pass
            problems[entry["name"]] = check(walk, entry)
    assert {name: found for name, found in problems.items() if found} == {}
    assert len(problems) == len(RECORDED) == 45
