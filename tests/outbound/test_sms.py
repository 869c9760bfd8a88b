"""Segments of short messages, against the counts of Twilio's own calculator, and limits of texts."""

from __future__ import annotations

import pytest

from msgcore.outbound.sms import BASIC, EXTENSION, SmsSize, measure, note_segments, outside_gsm, size_of

DIGITS = "1234567890" * 40
FLAG, RAINBOW = "🇮🇹", "🏳️‍🌈"

# https://github.com/TwilioDevEd/message-segment-calculator, tests/index.test.js; the last ones are our own
SIZES = [
    (DIGITS[:160], ("GSM-7", 160, 1)),
    (DIGITS[:161], ("GSM-7", 161, 2)),
    (DIGITS[:307], ("GSM-7", 307, 3)),
    ("😜" + DIGITS[:68], ("UCS-2", 70, 1)),
    ("😜" + DIGITS[:69], ("UCS-2", 71, 2)),
    ("😜" + DIGITS[:133], ("UCS-2", 135, 3)),
    (FLAG + DIGITS[:66], ("UCS-2", 70, 1)),
    (FLAG + DIGITS[:67], ("UCS-2", 71, 2)),
    (RAINBOW + DIGITS[:64], ("UCS-2", 70, 1)),
    (RAINBOW + DIGITS[:65], ("UCS-2", 71, 2)),
    *[(escaped + DIGITS[:158], ("GSM-7", 160, 1)) for escaped in "|^€{}[]~\\"],
    *[(escaped + DIGITS[:159], ("GSM-7", 161, 2)) for escaped in "|^€{}[]~\\"],
    *[(letter * 70, ("UCS-2", 70, 1)) for letter in "ÁÚúçíÍóÓ"],
    *[(letter * 71, ("UCS-2", 71, 2)) for letter in "ÁÚúçíÍóÓ"],
    ("😀" + "]" * 68, ("UCS-2", 70, 1)),
    ("😀" + "]" * 69, ("UCS-2", 71, 2)),
    ("", ("GSM-7", 0, 1)),
    (BASIC, ("GSM-7", 127, 1)),
    ("a" * 152 + "€" + "a" * 152, ("GSM-7", 306, 3)),  # the escape may not end a segment
    ("á" * 66 + "😜" + "a" * 66, ("UCS-2", 134, 3)),  # nor half of a character
]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_text_goes_in_as_many_segments_as_it_has_to(text: str, size: tuple[str, int, int]) -> None:
    found = size_of(text)
    assert (found.encoding, found.units, found.segments) == size
    assert isinstance(found, SmsSize)


def test_the_alphabet_is_that_of_the_standard() -> None:
    assert len(set(BASIC)) == 127  # 128, of which one is the escape
    assert not set(BASIC) & set(EXTENSION)
    assert outside_gsm(BASIC + EXTENSION) == ""
    assert outside_gsm("naïve “quotes” – ç") == "ï“”–ç"


@pytest.mark.parametrize(("text", "length"), [("abc", 3), ("ä{€", 5), ("Привет", 12), ("😜", 4), ("Grüße 😜", 10)])
def test_what_takes_more_bytes_counts_more(text: str, length: int) -> None:
    assert measure(text) == length


def test_several_segments_are_told_and_a_single_character_that_costs_them() -> None:
    assert note_segments(["a" * 160]) == []
    assert note_segments([]) == note_segments(["a" * 1600, "a" * 1600]) == []
    [note] = note_segments(["a" * 161])
    assert (note.field, note.rule, note.message) == (
        "content",
        "segments",
        "goes as 2 segments (GSM-7), each of which is charged",
    )
    [note] = note_segments(["it’s " + "a" * 140])
    assert note.message == (
        "goes as 3 segments (UCS-2), each of which is charged; "
        "it would be 1 without what GSM's alphabet does not have: ’ (U+2019)"
    )
    [note] = note_segments(["Съешь же ещё этих мягких французских булок, да выпей чаю. " * 2])
    assert note.message == "goes as 2 segments (UCS-2), each of which is charged"
