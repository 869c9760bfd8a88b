"""How many things of a kind there may be, so that nobody fills the database or makes lists without an end."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from msgcore.core.errors import ConflictError

Kind = Literal["projects", "members", "keys", "platforms"]


class Most(NamedTuple):
    """A limit, whose it is, and what to do about it."""

    number: int
    of: str
    remedy: str


MOST: Final[dict[Kind, Most]] = {
    "projects": Most(100, "A person owns", "delete one that is not used"),
    "members": Most(1000, "A project has", "remove some who are not there any more"),
    "keys": Most(1000, "A project has", "revoke some that are not used, expired ones too"),
    "platforms": Most(10_000, "A project has", "remove some that are not used"),
}


def refuse_another(kind: Kind, number: int) -> None:
    """Raise ConflictError where there are as many as there may be; count while others wait who make such things."""
    most = MOST[kind]
    if number >= most.number:
        raise ConflictError(f"{most.of} at most {most.number} {kind}: {most.remedy}")
