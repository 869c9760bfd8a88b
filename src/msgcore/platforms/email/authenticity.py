"""Whether a mail is from whom it says: what the account's own mail server found out, in Authentication-Results.

RFC 8601: the header tells its author by an authserv-id, and that server removes those which others wrote in its name
(section 5), so the account says which name to believe. RFC 7489: DMARC is about the domain of From, which
`header.from` names. Whoever controls a domain is taken for every address in it.
"""

from __future__ import annotations

import re
from typing import Any

from msgcore.platforms.email.decoding import header_text
from msgcore.platforms.email.mime import Part, addresses

AUTHENTICATION_SERVER = "authenticationServer"
LARGEST_ADDRESS = 320
DEEPEST_COMMENT = 5
"""Comments nested deeper are not understood, and then nothing is believed."""

# A quote without end takes the rest, or each quote in it would be looked at to the end.
_COMMENT_OR_QUOTED = re.compile(r'\([^()\\"]*+\)|"(?:[^"\\]|\\.)*+(?P<end>"?)')
_DMARC = re.compile(r"dmarc\s*(?:/\s*1\s*)?=\s*(\w+)", re.IGNORECASE)
_HEADER_FROM = re.compile(r"\bheader\.from\s*=\s*([^\s;@]+)", re.IGNORECASE)


def is_authentic(root: Part, server: str) -> bool:
    """Whether `server` says that DMARC passed for the one address in From; never without a server."""
    domain = _domain_of_sender(root)
    if not server or domain is None:
        return False
    said = [each for value in _all(root, "authentication-results") for each in _dmarc_results(value, server)]
    return bool(said) and all(each == ("pass", domain) for each in said)


def _domain_of_sender(root: Part) -> str | None:
    """None where From is not one header with one address: servers and readers may then mean different ones."""
    found = addresses(root, "from")
    if len(_all(root, "from")) != 1 or len(found) != 1 or len(found[0][1]) > LARGEST_ADDRESS:
        return None
    return found[0][1].rpartition("@")[2].lower() or None


def _dmarc_results(value: str, server: str) -> list[tuple[str, str]]:
    """The results of DMARC and their domains in a header of this server; comments and quoted texts prove nothing."""
    text = header_text(value)
    for _ in range(DEEPEST_COMMENT):
        text = _COMMENT_OR_QUOTED.sub(_left_of, text)
    name, *results = text.split(";")
    if (name.split() or [""])[0].lower() != server.lower():
        return []
    if any(mark in text for mark in '()"'):
        return [("unreadable", "")]
    found: list[tuple[str, str]] = []
    for result in results:
        if (dmarc := _DMARC.match(result.strip())) is not None:
            about = _HEADER_FROM.search(result)
            found.append((dmarc[1].lower(), about[1].lower() if about else ""))
    return found


def _left_of(found: re.Match[str]) -> str:
    """A space; of a quote without end its mark, by which it is seen that the header cannot be read."""
    return '"' if found["end"] == "" else " "


def _all(root: Part, name: str) -> list[str]:
    found: Any = root.get_all(name, [])
    return found
