"""Reads the lock files: every package that is installed, with its version and the hashes of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_PIN = re.compile(
    r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>[^\s;]+)"
    r"(?: ; (?P<marker>[^-]\S*(?: \S+)*?))?"
    r"(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)"
)


class LockError(Exception):
    """A lock file holds something other than a package, its version and its hashes."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock file: its normalized name, and the SHA-256 of each file that may be installed of it.

    `marker` says on which systems it is installed; it is empty where that is all of them.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def pin(self) -> str:
        """Name and version."""
        return f"{self.name}=={self.version}"


def read_lock(path: Path) -> list[Locked]:
    """The packages of a lock file, in its order. Raises LockError with the line that is none."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [_read_line(path, " ".join(line.split())) for line in lines if line.strip()]


def _read_line(path: Path, line: str) -> Locked:
    pin = _PIN.fullmatch(line)
    if pin is None:
        raise LockError(f"{path.name}: {line[:120]!r} is no package with `==`, a version and hashes; run: make lock")
    hashes = (each.removeprefix("--hash=sha256:") for each in pin["hashes"].split())
    return Locked(pin["name"], pin["version"], pin["marker"] or "", tuple(hashes))
