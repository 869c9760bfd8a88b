"""Short messages: GSM's alphabet, and the segments that a text goes in.

Sources: 3GPP TS 23.038, 6.2.1 (the 7 bit default alphabet and its extension table) and 6.2.3 (UCS2); TS 23.040,
9.2.3.24.1 (concatenated short messages). A segment has 140 octets, which are 160 septets or 70 code units of UTF-16;
where there are several, a header takes 6 octets of each, and leaves 153 or 67.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgcore.outbound.rendering import Degradation

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"
"""Each of these takes two septets: an escape, and a character."""

FEW = 5
"""Characters outside of the alphabet that are named to whoever may do without them."""

_NO_BASIC = str.maketrans("", "", BASIC)
_NO_GSM = str.maketrans("", "", BASIC + EXTENSION)


class Encoding(StrEnum):
    """How all characters of a short message are written."""

    GSM_7 = "GSM-7"
    UCS_2 = "UCS-2"


_WHOLE = {Encoding.GSM_7: 160, Encoding.UCS_2: 70}
_PART = {Encoding.GSM_7: 153, Encoding.UCS_2: 67}


@dataclass(frozen=True, slots=True)
class SmsSize:
    """How a text goes as a short message: `units` are septets, or code units of UTF-16."""

    encoding: Encoding
    units: int
    segments: int


def outside_gsm(text: str) -> str:
    """The characters of a text that GSM's alphabet does not have, each once: one of them forces UCS-2 on all."""
    return "".join(dict.fromkeys(text.translate(_NO_GSM)))


def size_of(text: str) -> SmsSize:
    """How a text goes as a short message. No character is cut by the end of a segment."""
    if outside_gsm(text):
        encoding, widths = Encoding.UCS_2, [1 + (ord(character) > 0xFFFF) for character in text]  # noqa: PLR2004
    else:
        encoding, widths = Encoding.GSM_7, [1 + (character in EXTENSION) for character in text]
    units = sum(widths)
    segments = 1 if units <= _WHOLE[encoding] else _filled(widths, _PART[encoding])
    return SmsSize(encoding, units, segments)


def _filled(widths: Iterable[int], room: int) -> int:
    segments, used = 1, 0
    for width in widths:
        if used + width > room:
            segments, used = segments + 1, 0
        used += width
    return segments


def measure(text: str) -> int:
    """The length of a text as providers limit it: characters, of which some count as several.

    Those of the extension table count twice, and those outside of the alphabet as many times as they have bytes in
    UTF-8 (https://www.twilio.com/docs/api/errors/21617: "counted as multiple characters if they have a higher byte
    count").
    """
    outside = text.translate(_NO_GSM)
    extended = len(text.translate(_NO_BASIC)) - len(outside)
    return len(text) + extended + len(outside.encode()) - len(outside)


def note_segments(texts: Sequence[str]) -> list[Degradation]:
    """What a text costs that goes in several segments; nothing where it is split into messages, which says it all."""
    if len(texts) != 1 or (size := size_of(texts[0])).segments == 1:
        return []
    words = f"goes as {size.segments} segments ({size.encoding}), each of which is charged"
    few = outside_gsm(texts[0])
    if 0 < len(few) <= FEW:
        without = size_of(texts[0].translate({ord(character): "?" for character in few}))
        if without.segments < size.segments:
            names = ", ".join(f"{character} (U+{ord(character):04X})" for character in few)
            words += f"; it would be {without.segments} without what GSM's alphabet does not have: {names}"
    return [Degradation("content", "segments", words)]
