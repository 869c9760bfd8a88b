"""`msgcore doctor`: checks what a server needs and says how to mend what is missing.

It looks and never makes: what a first start would create is reported as such.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import aiohttp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from msgcore.cli.database import open_database
from msgcore.cli.http_server import Address, require_free
from msgcore.config import Settings, load_settings
from msgcore.core.errors import StartupError
from msgcore.security.key_providers import key_provider
from msgcore.security.keys import open_keyring
from msgcore.security.secrets import load_secrets
from msgcore.security.secrets_file import SECRETS_FILE
from msgcore.services.health import check_encryption_key
from msgcore.services.key_rotation import key_uses, rows_by_key
from msgcore.store.database import Database
from msgcore.store.migrate import require_current
from msgcore.unknown_variables import unknown_variables

_OLDEST_PYTHON = (3, 11)
DNS_NAME = "example.com"
_DNS_SECONDS = 5.0
_HEALTH_SECONDS = 2.0


class State(Enum):
    """How well a checked thing is; the value is how it is shown."""

    OK = "[green]OK[/green]"
    WARN = "[yellow]WARN[/yellow]"
    """Worth a look, but a server may work without it, so the command does not fail."""
    FAIL = "[red]FAIL[/red]"


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing; `detail` is what was found, or what is wrong and the remedy."""

    subject: str
    state: State
    detail: str


async def examine(environ: Mapping[str, str]) -> bool:
    """Print a table of all checks; returns whether none failed."""
    findings = [finding async for finding in check_all(environ)]
    table = Table("", "Checked", "Found", show_lines=False)
    for finding in findings:
        table.add_row(finding.state.value, finding.subject, Text(finding.detail))
    Console().print(table)
    return all(finding.state is not State.FAIL for finding in findings)


async def check_all(environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Each check's finding, in the order in which one builds on another."""
    yield _python()
    try:
        settings = load_settings(environ)
    except StartupError as error:
        yield Finding("settings", State.FAIL, str(error))
        return
    for finding in _settings(environ):
        yield finding
    yield _data_dir(settings)
    async for finding in _database_and_key(settings):
        yield finding
    yield await _port(settings)
    yield _egress(settings)
    yield await _names()


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < _OLDEST_PYTHON:
        return Finding("Python", State.FAIL, f"{version}; use 3.11 or newer")
    return Finding("Python", State.OK, version)


def _settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    warnings = unknown_variables(environ)
    yield from (Finding("settings", State.FAIL, warning) for warning in warnings)
    if not warnings:
        yield Finding("settings", State.OK, "all values are allowed")


def _data_dir(settings: Settings) -> Finding:
    path = settings.data_dir
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "set MSGCORE_DATA_DIR to a folder that this user can write to"
        return Finding("data directory", State.FAIL, f"{existing} cannot be written; {remedy}")
    secrets = path / SECRETS_FILE
    if secrets.exists() and stat.S_IMODE(secrets.stat().st_mode) & 0o077:
        return Finding("data directory", State.FAIL, f"{secrets} can be read by others; run: chmod 600 {secrets}")
    return Finding("data directory", State.OK, f"{path}" + ("" if path.exists() else " (made on the first start)"))


async def _database_and_key(settings: Settings) -> AsyncIterator[Finding]:
    """The key is checked against the database, so without the one there is no word on the other."""
    if settings.database_url is None and not (settings.data_dir / "msgcore.db").exists():
        yield Finding("database", State.OK, "a SQLite file (made on the first start)")
        return
    try:
        async with open_database(settings) as database:
            await require_current(database)
            yield Finding("database", State.OK, f"{database.kind}, schema up to date")
            yield await _encryption_key(settings, database)
    except StartupError as error:
        yield Finding("database", State.FAIL, str(error))


async def _encryption_key(settings: Settings, database: Database) -> Finding:
    if not _has_secrets(settings):
        remedy = "restore it, or set MSGCORE_ENCRYPTION_KEY and MSGCORE_JWT_SECRET"
        detail = f"{settings.data_dir / SECRETS_FILE} is gone; {remedy}"
        return Finding("encryption key", State.FAIL, detail)
    try:
        keyring = open_keyring(settings, load_secrets(settings))
        await check_encryption_key(database, keyring)
    except StartupError as error:
        return Finding("encryption key", State.FAIL, str(error))
    rows = rows_by_key(await key_uses(database))
    unreadable = sum(number for key, number in rows.items() if key not in keyring.key_ids)
    if unreadable:
        detail = f"{unreadable:,} rows are under keys that are not given; msgcore keys status shows which"
        return Finding("encryption key", State.FAIL, detail)
    return Finding("encryption key", State.OK, "fits the database")


def _has_secrets(settings: Settings) -> bool:
    given = key_provider(settings).source is not None and settings.jwt_secret is not None
    return given or (settings.data_dir / SECRETS_FILE).exists()


async def _port(settings: Settings) -> Finding:
    where = Address.of_api(settings)
    try:
        require_free(where)
    except StartupError as error:
        if await _answers_as_msgcore(f"{where.url}/api/v1/health"):
            return Finding("port", State.OK, f"{where}, MsgCore is running there")
        return Finding("port", State.FAIL, str(error))
    return Finding("port", State.OK, f"{where} is free")


async def _answers_as_msgcore(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=_HEALTH_SECONDS)
    try:  # a certificate is for the public name, which this address does not have
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, ssl=False) as answer:
            return "setupRequired" in await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False


def _egress(settings: Settings) -> Finding:
    networks = ", ".join(settings.egress_allow)
    detail = f"public addresses and {networks}" if networks else "public addresses only"
    return Finding("outbound", State.OK, f"user-given hosts: {detail}")


async def _names() -> Finding:
    try:
        async with asyncio.timeout(_DNS_SECONDS):
            await asyncio.get_running_loop().getaddrinfo(DNS_NAME, 443, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        # no failure: a machine that is meant to be offline is well
        detail = f"{DNS_NAME} does not resolve; check /etc/resolv.conf and the network (the sandbox works without)"
        return Finding("name resolution", State.WARN, detail)
    return Finding("name resolution", State.OK, f"{DNS_NAME} resolves")
