"""The table of docs/access.md: what each endpoint asks of whom, told apart from the code that asks it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
ROLES = ("viewer", "member", "admin", "owner")
ANYBODY, ANY_KEY, NO_KEY = "anybody", "any key", "no key may"
SIGNED_IN, ADMINISTRATOR = "signed in", "administrator"

_ROW = re.compile(
    r"\| (?P<method>\w+) \| `(?P<path>/[^`]+)`(?P<variant>[^|]*)\| (?P<key>[^|]+) \| (?P<person>[^|]+) \|"
)
_SCOPES = re.compile(r"(`[a-z]+:[a-z]+` ?)+")


@dataclass(frozen=True)
class Row:
    """One endpoint. `key` is what a key needs besides `scopes`: `ANYBODY`, `ANY_KEY` (that has them) or `NO_KEY`."""

    method: str
    path: str
    variant: str
    key: str
    scopes: frozenset[str]
    person: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.variant}".rstrip()

    @property
    def is_public(self) -> bool:
        return self.key == ANYBODY

    @property
    def is_of_a_project(self) -> bool:
        return "{project}" in self.path

    @property
    def in_document(self) -> bool:
        """Whether it is an operation of OpenAPI, of which another row may be a special case."""
        return self.method.isupper() and self.method != "SSE" and not self.variant


def read_table() -> list[Row]:
    """All rows. Raises ValueError for one that says something else than such rows say."""
    found = [_row(match) for match in map(_ROW.fullmatch, PAGE.read_text().splitlines()) if match]
    if len(set(map(str, found))) != len(found):
        raise ValueError("an endpoint has two rows")
    return found


def _row(match: re.Match[str]) -> Row:
    method, path, variant, key, person = (text.strip() for text in match.groups())
    scopes = frozenset(re.findall(r"[a-z]+:[a-z]+", key)) if _SCOPES.fullmatch(key) else frozenset[str]()
    row = Row(method, path, variant, ANY_KEY if scopes else key, scopes, person)
    known_people = ROLES if row.is_of_a_project else (ANYBODY, SIGNED_IN, ADMINISTRATOR)
    if row.key not in (ANYBODY, ANY_KEY, NO_KEY) or person not in known_people or row.is_public != (person == ANYBODY):
        raise ValueError(match[0])
    return row
