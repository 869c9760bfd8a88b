"""From envelopes to what is stored: platforms write more than there is room for."""

from __future__ import annotations

import pytest

from inbound.test_reader import request
from msgcore.core.envelope import Envelope, File, Message, Person, Place, Reaction
from msgcore.inbound.translation import Occurrence, file_rows, message_row, reaction_row

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
