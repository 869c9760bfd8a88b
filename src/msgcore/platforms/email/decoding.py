"""Bytes of a mail as text, whatever is wrong with them: charsets, transfer encodings, encoded words.

Nothing here raises for damaged input, and nothing is ever unpacked. Character sets come from a closed list:
Python remembers each unknown name for ever, and has codecs that are none (zlib, punycode, unicode_escape).
Sources: RFC 2045 section 6 (transfer encodings), RFC 2047 (encoded words), RFC 5322 section 2.2.3 (folding),
https://encoding.spec.whatwg.org/#names-and-labels (what mislabelled text really is).
"""

from __future__ import annotations

import binascii
import codecs
import re
from encodings.aliases import aliases

_WIDER = {
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "tis_620": "cp874",
}
"""What text that is said to be in the first really is in: the second has all of it, and more."""
_OTHER_NAMES = {
    "windows_874": "cp874",
    "sjis": "cp932",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "utf8mb4": "utf_8",
    "unicode_1_1_utf_8": "utf_8",
    **{name: name for name in ("koi8_t", "koi8_u", "cp720", "cp737", "cp856", "cp874", "cp875", "cp1006")},
}
_NOT_CHARSETS = frozenset(
    (
        *(
            "base64_codec",
            "bz2_codec",
            "hex_codec",
            "mbcs",
            "quopri_codec",
            "rot_13",
            "tactis",
            "uu_codec",
            "zlib_codec",
        ),
        "ascii",  # beyond ASCII, what says that it is ASCII may be anything
    )
)
_NAMES = {**{name: name for name in aliases.values()}, **aliases, **_OTHER_NAMES}
_CODECS = {name: _WIDER.get(codec, codec) for name, codec in _NAMES.items() if codec not in _NOT_CHARSETS}

_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_WORD = re.compile(r"=\?([^?*\s]{1,60})(?:\*[^?\s]{0,40})?\?([bBqQ])\?([^?]*)\?=")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_PADDINGS = 1000


def codec_of(charset: str | None) -> str | None:
    """Python's name for a charset; None for one that is not known."""
    name = re.sub(r"[^a-z0-9]+", "_", (charset or "")[:60].lower()).strip("_").removeprefix("x_")
    return _CODECS.get(name) or _CODECS.get(name.replace("_", ""))


def decode(data: bytes, charset: str | None, *, cut: bool = False) -> str:
    """Text in a charset or, where it is not in that, in UTF-8 or cp1252; what is damaged becomes U+FFFD.

    `cut` says that the last character may be half there.
    """
    codec = codec_of(charset)
    for name in (codec, "utf_8"):
        if name is not None:
            try:
                return codecs.getincrementaldecoder(name)().decode(data, final=not cut)
            except UnicodeError:
                continue
    return data.decode(codec or "cp1252", "replace")


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """The content behind a Content-Transfer-Encoding, as far as it is whole; unknown encodings are left as they are."""
    match encoding:
        case "base64":
            return decode_base64(data)
        case "quoted-printable":
            return binascii.a2b_qp(data)
        case _:
            return data


def decode_base64(data: bytes) -> bytes:
    """What is in base64, without what does not belong there and up to where it was cut off; pieces are joined."""
    letters = data.translate(None, _NOT_BASE64)
    return b"".join(_decode_piece(piece) for piece in letters.split(b"=", _PADDINGS))


def _decode_piece(piece: bytes) -> bytes:
    letters = piece.partition(b"=")[0]
    if len(letters) % 4 == 1:  # six bits of a byte that never came
        letters = letters[:-1]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


def header_text(value: str) -> str:
    """A header's value as Python's parser gives it (bytes as surrogates), decoded, on one line."""
    if not value.isascii():
        value = decode(as_bytes(value), None)
    return one_line(_decode_words(_FOLD.sub("", value)))


def as_bytes(value: str) -> bytes:
    """The bytes behind what Python's parser makes of them."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of characters that no parser made
        return value.encode("utf-8", "replace")


def _decode_words(value: str) -> str:
    """Encoded words as text. Neighbours are joined first: many programs cut a character between two of them."""
    found: list[str] = []
    position, charset, run = 0, "", b""
    for match in _WORD.finditer(value):
        between = value[position : match.start()]
        follows = position > 0 and not between.strip()
        if not (follows and match[1].lower() == charset):
            found.append(decode(run, charset))
            run = b""
        if not follows:
            found.append(between)
        charset = match[1].lower()
        text = match[3].encode("utf-8", "replace")
        run += decode_base64(text) if match[2] in "bB" else binascii.a2b_qp(text, header=True)
        position = match.end()
    return "".join((*found, decode(run, charset), value[position:]))


def one_line(text: str) -> str:
    """Without line breaks, control characters and halves of characters, so that it may go into a header again."""
    return _whole(_CONTROL.sub(" ", text)).strip()


def clean_text(text: str) -> str:
    """Text of several lines with LF between them, without other control characters and halves of characters."""
    return _whole(_CONTROL_IN_TEXT.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
