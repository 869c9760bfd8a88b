"""`python -m supply.audit LOCK...`: are there known vulnerabilities in what the lock files name?

pip-audit asks OSV (https://osv.dev) for every package and version, those of other systems included; nothing is
installed or resolved for it. Status 0: none is known, or nobody could be asked, which is said loudly. 1: there is one
that `ignored.toml` does not excuse, an excuse is stale, or the audit itself failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import msgspec
import requests

from supply.locks import Locked, LockError, read_lock

OSV_URL = "https://api.osv.dev/v1/query"
IGNORED = Path(__file__).with_name("ignored.toml")
LONGEST = timedelta(days=180)
"""How far ahead the date of an excuse may be."""

_AWAY = frozenset((403, 407, 408, 429, 451))
"""Answers of proxies and of servers that have enough; any from 500 on counts as well. Others are no reason to pass."""

_ASK_SECONDS = 15
_AUDIT_SECONDS = 600

Locks = Mapping[str, Sequence[Locked]]
"""The packages of each lock file, by its name."""


class AuditError(Exception):
    """The audit does not pass, or could not be made; the message says why and what to do."""


class UnreachableError(Exception):
    """Nobody answers where vulnerabilities are known."""


class Ignored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A vulnerability that is let pass."""

    id: str
    package: str
    reason: str
    until: date


class _IgnoredFile(msgspec.Struct, forbid_unknown_fields=True):
    ignore: list[Ignored] = []


class Vulnerability(msgspec.Struct):
    """One of a package, as pip-audit reports it."""

    id: str
    aliases: list[str] = []
    fix_versions: list[str] = []
    description: str = ""


class Audited(msgspec.Struct):
    """A package that was asked about."""

    name: str
    version: str
    vulns: list[Vulnerability]

    @property
    def pin(self) -> str:
        """Name and version, as lock files write them."""
        return f"{self.name}=={self.version}"


class _Report(msgspec.Struct):
    dependencies: list[Audited]


@dataclass(frozen=True, slots=True)
class Found:
    """A vulnerability and whose it is."""

    package: Audited
    vulnerability: Vulnerability

    def is_meant_by(self, ignored: Ignored) -> bool:
        """Whether an excuse is about it, by whichever of its numbers."""
        numbers = (self.vulnerability.id, *self.vulnerability.aliases)
        return ignored.package == self.package.name and ignored.id in numbers


def main(arguments: Sequence[str]) -> None:
    """Audit the lock files that are named."""
    parser = argparse.ArgumentParser(prog="python -m supply.audit")
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    parser.add_argument("--ignored", type=Path, default=IGNORED)
    parser.add_argument("--osv-url", default=OSV_URL)
    given = parser.parse_args(arguments)
    try:
        ignored = read_ignored(given.ignored, datetime.now(UTC).date())
        locks = {path.name: read_lock(path) for path in given.locks}
        found = audit(locks, given.osv_url)
        check(found, ignored, locks)
    except UnreachableError as error:
        _shout(f"{error}\nKNOWN VULNERABILITIES WERE NOT LOOKED FOR. Run `make audit` where the network allows it.")
    except (AuditError, LockError) as error:
        sys.exit(f"audit: {error}")
    else:
        print(f"audit: no known vulnerability in {', '.join(locks)}, apart from {len(ignored)} ignored")


def read_ignored(path: Path, today: date) -> list[Ignored]:
    """What is let pass. Raises AuditError for a file that is wrong, and for what is over or too far ahead."""
    try:
        ignored = msgspec.toml.decode(path.read_bytes(), type=_IgnoredFile).ignore
    except msgspec.DecodeError as error:
        raise AuditError(f"{path.name}: {error}") from None
    for each in ignored:
        if not each.reason.strip():
            raise AuditError(f"{path.name}: {each.id} has no reason")
        if each.until < today:
            raise AuditError(f"{path.name}: {each.id} was ignored until {each.until}; look at it again")
        if each.until > today + LONGEST:
            raise AuditError(f"{path.name}: {each.id} is ignored until {each.until}; {LONGEST.days} days are the most")
    return ignored


def audit(locks: Locks, osv_url: str) -> list[Found]:
    """What is known of these packages. Raises UnreachableError, and AuditError where pip-audit fails."""
    _ask_whether_somebody_is_there(osv_url)
    pins = {each.pin: each for locked in locks.values() for each in locked}
    report = [each for asked in _rounds(pins.values()) for each in _run(asked, osv_url)]
    if missing := pins.keys() - {each.pin for each in report}:
        raise AuditError(f"pip-audit did not look at {', '.join(sorted(missing))}")
    return [Found(package, each) for package in report for each in package.vulns]


def check(found: Iterable[Found], ignored: Sequence[Ignored], locks: Locks) -> None:
    """Raise AuditError for what is not ignored, and for what is ignored but not there."""
    found = list(found)
    left = [each for each in found if not any(map(each.is_meant_by, ignored))]
    if left:
        raise AuditError("\n".join(["known vulnerabilities:", *(_line(each, locks) for each in left)]))
    if stale := [each for each in ignored if not any(one.is_meant_by(each) for one in found)]:
        raise AuditError(f"these are not there any more; take them out of ignored.toml: {_numbers(stale)}")


def _ask_whether_somebody_is_there(osv_url: str) -> None:
    """Raise UnreachableError where OSV does not answer, and AuditError where the address is not OSV's.

    pip-audit ends in the same way whether it found something, could not ask or broke, so this is asked before.
    """
    question = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "0"}
    try:
        answer = requests.post(osv_url, json=question, timeout=_ASK_SECONDS)
        if answer.ok:
            answer.json()
    except requests.JSONDecodeError:
        raise UnreachableError(f"{osv_url} does not answer as OSV does; a proxy may be in the way") from None
    except requests.RequestException as error:
        raise UnreachableError(f"{osv_url} cannot be asked: {error}") from None
    if answer.status_code in _AWAY or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise UnreachableError(f"{osv_url} cannot be asked: it answers {answer.status_code}")
    if not answer.ok:
        raise AuditError(f"{osv_url} answers {answer.status_code}; is it where OSV takes queries?")


def _rounds(pins: Iterable[Locked]) -> list[list[Locked]]:
    """The packages in as few lists as possible that have each name once: pip-audit takes no more.

    There may be two versions of one: of systems that differ, or in lock files that differ.
    """
    rounds: list[dict[str, Locked]] = []
    for pin in pins:
        free = next((each for each in rounds if pin.name not in each), None)
        if free is None:
            rounds.append(free := {})
        free[pin.name] = pin
    return [list(each.values()) for each in rounds]


def _without_marker(locked: Locked) -> str:
    """A line that is for every system, or pip-audit leaves out what this one does not install."""
    return f"{locked.pin}{''.join(f' --hash=sha256:{each}' for each in locked.hashes)}\n"


def _run(pins: Iterable[Locked], osv_url: str) -> list[Audited]:
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.txt"
        asked.write_text("".join(map(_without_marker, pins)), encoding="utf-8")
        return _read_report(_pip_audit(asked, osv_url))


def _pip_audit(asked: Path, osv_url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(asked), "--require-hashes", "--disable-pip"]
    command += ["--vulnerability-service", "osv", "--osv-url", osv_url, "--format", "json", "--strict"]
    command += ["--aliases", "on", "--desc", "on", "--progress-spinner", "off", "--cache-dir", str(asked.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_AUDIT_SECONDS)  # noqa: S603 - our own arguments


def _read_report(done: subprocess.CompletedProcess[str]) -> list[Audited]:
    try:
        return msgspec.json.decode(done.stdout, type=_Report).dependencies
    except msgspec.DecodeError:
        raise AuditError(f"pip-audit failed with status {done.returncode}: {done.stderr[-2000:]}") from None


def _line(found: Found, locks: Locks) -> str:
    package, vulnerability = found.package, found.vulnerability
    places = [name for name, locked in locks.items() if any(each.pin == package.pin for each in locked)]
    fixed = f"fixed in {', '.join(vulnerability.fix_versions)}" if vulnerability.fix_versions else "not fixed yet"
    numbers = ", ".join((vulnerability.id, *vulnerability.aliases))
    return f"  {package.name} {package.version} ({', '.join(places)}): {numbers}; {fixed}: {vulnerability.description}"


def _numbers(ignored: Iterable[Ignored]) -> str:
    return ", ".join(f"{each.id} of {each.package}" for each in ignored)


def _shout(text: str) -> None:
    line = "!" * 100
    print(f"{line}\naudit: {text}\n{line}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
