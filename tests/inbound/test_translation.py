"""From envelopes to what is stored: platforms write more than there is room for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from inbound.test_reader import request
from msgcore.core.envelope import (
    Click,
    Command,
    Envelope,
    File,
    Membership,
    Message,
    Person,
    Place,
    Reaction,
)
from msgcore.inbound.recording import Reading, read
from msgcore.inbound.translation import Occurrence, file_rows, message_row, reaction_row
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.sandbox import SandboxAdapter
from msgcore.platforms.sandbox.inbound import SandboxInbound
from servers.deliveries import make_account

LONG = "x" * 256


def occurrence(content: Message | Reaction) -> Occurrence:
    return Occurrence.of(
        request("t"), Envelope(event_id="e", chat=Place(id="c"), author=Person(id="a"), content=content)
    )


@pytest.mark.parametrize(
    ("given", "kept"), [("m1", "m1"), (LONG[1:], LONG[1:]), (LONG, None), ("a\x00b", None), ("", None), (None, None)]
)
def test_what_a_message_answers_is_left_out_where_it_cannot_be_stored(given: str | None, kept: str | None) -> None:
    found = occurrence(Message(id="m", text="t", reply_to=given, thread_id=given))
    assert message_row(found)["reply_to"] == kept
    assert isinstance(found.envelope.content, Message)
    assert (found.envelope.content.reply_to, found.envelope.content.thread_id) == (kept, kept)


@pytest.mark.parametrize(("given", "kept"), [("👍", "👍"), (LONG, LONG[1:]), ("a\x00b", "ab")])
def test_what_is_too_long_is_shortened(given: str, kept: str) -> None:
    found = occurrence(Reaction(message_id="m", emoji=given))
    assert isinstance(found.envelope.content, Reaction)
    assert reaction_row(found, found.envelope.content)["emoji"] == kept
    file = File(type="document", url="https://x.example/", filename=given, mime_type=given)
    [row] = file_rows(occurrence(Message(id="m", attachments=(file,))))
    assert (row["filename"], row["mime_type"]) == (kept, kept)


ODD: list[Envelope] = [
    Envelope(event_id="e", chat=Place(id="c"), content=content, author=author)  # type: ignore[arg-type]
    for content, author in (
        (Message(id="m", text={"body": "t"}), None),
        (Message(id=7, text="t"), None),
        (Message(id="m", text="half \ud800 of a character"), None),
        (Reaction(message_id="m", emoji=["x"]), None),
        (Click(value=1), None),
        (Command(id="m", name="n", arguments=5), None),
        (Membership(joined="yes"), None),
        (Membership(joined=True, member=Person(id={"a": 1})), None),
        (Message(id="m", text="t"), Person(id="a", username=[])),
        (Message(id="m", text="t"), Person(id="\ud800")),
        (Message(id="m", text="t"), Person(id="a", is_bot=None)),
    )
]


@pytest.mark.parametrize("envelope", ODD, ids=lambda envelope: repr(envelope.content)[:60])
def test_what_holds_something_else_than_it_should_holds_nothing_else_back(envelope: Envelope) -> None:
    good = Envelope(event_id="good", chat=Place(id="c"), author=Person(id="a"), content=Message(id="g", text="2"))

    def told(*envelopes: Envelope) -> Reading:
        class Reader(SandboxInbound):
            def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
                return envelopes

        [reading] = read(SandboxAdapter, Reader(), make_account("sandbox", {}), [(1, request("t"))])
        return reading

    assert [each.envelope.event_id for each in told(envelope, good, envelope).occurrences] == ["good"]
    alone = told(envelope)
    assert list(alone.occurrences) == []
    assert alone.error
