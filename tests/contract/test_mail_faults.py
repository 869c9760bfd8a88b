"""What `test_fault_contract.py` says of HTTP holds for mails as well: each fault of an SMTP server meets one."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contract.fault_cases import Case, case
from contract.fault_place import REGISTRY, Story, assert_nothing, begins_wrong, ends_wrong, fault_place
from msgcore.platforms.email import client
from servers.clock import FakeClock
from servers.faulty_http import holds, resets, says
from servers.faulty_smtp import FaultySmtp, faulty_smtp, replies, replies_without_end

COMMAND_SECONDS = 1.0
RETRY_SECONDS = 60.0
LOGIN = {"smtpUser": "mailer", "smtpPassword": "open sesame"}
HANGS_UP = says(b"")
NOT_SMTP = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html><body>Bad</body></html>"


def at(place: str, *cases: Case) -> list[tuple[str, Case]]:
    return [(place, each) for each in cases]


FAULTS = [
    *at(
        "greeting",
        case("connection refused", None, "retry", reached="no", code="smtp_connection"),
        case("busy", replies(b"421 4.3.2 Too busy"), "retry", reached="no", code="smtp_unavailable"),
        case("no service", replies(b"554 5.7.1 Go away"), "retry", reached="no", code="smtp_unavailable"),
        case("hangs up", HANGS_UP, "retry", reached="no", code="smtp_connection"),
        case("resets", resets, "retry", reached="no", code="smtp_connection"),
        case("not SMTP", says(NOT_SMTP), "retry", reached="no"),
        case("bytes", says(b"\x00\xff\xfe\r\n"), "retry", reached="no"),
        case("a long line", says(b"220 " + b"a" * 200_000), "retry", reached="no"),
        case("never greets", holds, "retry", reached="no", code="smtp_timeout"),
    ),
    *at(
        "EHLO",
        case("EHLO unknown", replies(b"502 5.5.1 What?"), "sent"),
        case("EHLO without end", replies_without_end, "retry", reached="no"),
    ),
    *at(
        "AUTH",
        case("login refused", replies(b"535 5.7.8 open sesame is wrong"), "authentication", code="smtp_login_refused"),
        case("login not now", replies(b"454 4.7.0 Later"), "retry", reached="no", code="smtp_login_unavailable"),
        case("hangs up at the login", HANGS_UP, "retry", reached="no"),
    ),
    *at(
        "MAIL",
        case("sender not now", replies(b"451 4.3.0 Later"), "retry", reached="no", code="sender_refused"),
        case("sender refused", replies(b"550 5.7.1 Not you"), "failed", reached="no", code="sender_refused"),
        case("login wanted", replies(b"530 5.7.0 Log in"), "authentication", code="smtp_login_required"),
        case("closing", replies(b"421 4.3.2 Closing"), "retry", reached="no"),
    ),
    *at(
        "RCPT",
        case("greylisted", replies(b"451 4.7.1 Later"), "retry", reached="no", code="recipient_refused"),
        case("full", replies(b"452 4.2.2 Full"), "retry", reached="no", code="recipient_refused"),
        case("unknown", replies(b"550 5.1.1 No such user"), "failed", reached="no", code="recipient_refused"),
        case("unreadable", replies(b"\xff\xfe what"), "retry", reached="no"),
        case("hangs up", HANGS_UP, "retry", reached="no", code="smtp_connection"),
        case("no answer", holds, "retry", reached="no", code="smtp_timeout"),
    ),
    *at(
        "DATA",
        case("no text now", replies(b"451 4.3.0 Later"), "retry", reached="no", code="message_refused"),
        case("no text", replies(b"554 5.5.1 No"), "failed", reached="no", code="message_refused"),
    ),
    *at(
        "text",
        case("queue full", replies(b"452 4.3.1 Later"), "retry", reached="no", code="message_refused"),
        case("spam", replies(b"554 5.7.1 Spam"), "failed", reached="no", code="message_refused"),
        *(
            case(name, play, "retry", reached="maybe", code="smtp_answer_lost", on_uncertain=on_uncertain)
            for name, play in (("hangs up", HANGS_UP), ("resets", resets), ("no answer", holds), ("bytes", says(b"\xff\r\n")))
            for on_uncertain in ("resend", "fail")
        ),
    ),
]  # fmt: skip


async def test_each_fault_of_a_mail_server_ends_as_it_should(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "COMMAND_SECONDS", COMMAND_SECONDS)
    clock, declaration = FakeClock(datetime.now(UTC).replace(microsecond=0)), REGISTRY.declaration("email")
    with ExitStack() as stack:
        servers = [stack.enter_context(faulty_smtp(where, case.play, clock.monotonic)) for where, case in FAULTS]
        async with fault_place(tmp_path, sqlite_url, clock) as place:
            accounts = await place.add_accounts("email", [credentials(server) for server in servers])
            for server in servers:
                if server.play is not None:
                    await server.listen()
            mails = zip(accounts, FAULTS, strict=True)
            jobs = await place.send([mail(account, case.on_uncertain) for account, (_, case) in mails])
            stories = await place.stories()
            all_of_them = [(case, job, server) for (_, case), job, server in zip(FAULTS, jobs, servers, strict=True)]
            assert_nothing(begins_wrong(case, stories[job], declaration) for case, job, _ in all_of_them)

            for server in servers:
                if server.play is None:
                    await server.listen()
            paused = await place.pauses()
            outcomes = {account: stories[job].outcomes for account, job in zip(accounts, jobs, strict=True)}
            assert paused.keys() == {id_ for id_, each in outcomes.items() if each == ["authentication"]}
            await place.pass_time(RETRY_SECONDS)
            await place.resume(list(paused))
            await place.pass_time(RETRY_SECONDS)
            stories = await place.stories()
            assert_nothing(ends_wrong(case, stories[job], len(server.came)) for case, job, server in all_of_them)
            assert_nothing(taken_wrong(case, stories[job], server) for case, job, server in all_of_them)


def credentials(server: FaultySmtp) -> dict[str, Any]:
    login = LOGIN if server.place == "AUTH" else {}
    return {"smtpHost": "127.0.0.1", "smtpPort": server.port, "fromEmail": "shop@example.com", **login}


def mail(account: str, on_uncertain: str) -> dict[str, Any]:
    where = {"platformId": account, "type": "user", "id": "bob@example.com"}
    content = {"subject": "Hi", "text": "Hello"}
    return {"targets": [where], "content": content, "options": {"onUncertain": on_uncertain}}


def taken_wrong(case: Case, story: Story, server: FaultySmtp) -> list[str]:
    """What is wrong with the mails that the server got to see whole: it can tell a second one by its Message-ID."""
    expected = server.came if server.place == "text" else ["once"] * (story.state == "sent")
    if len(server.taken) == len(expected) and len(set(server.taken)) <= 1:
        return []
    return [f"{case}: received {server.taken} ({story.outcomes})"]
