"""What `msgcore keys` does."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rich.table import Table

from msgcore.cli.operators import counting, operator_database, plain, print_json, print_table
from msgcore.config import Settings
from msgcore.core.clock import SystemClock
from msgcore.core.errors import ConflictError, StartupError
from msgcore.security.key_providers import key_provider
from msgcore.security.keyring import Keyring
from msgcore.security.keys import add_key, open_keyring, prune_keys
from msgcore.security.secrets import load_secrets
from msgcore.security.secrets_file import SECRETS_FILE
from msgcore.services.health import check_encryption_key
from msgcore.services.key_rotation import KeyRotation, Rotated, key_uses, note_key, rows_by_key


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a rotation does besides: make a key before, remove old ones after. `rate` is the most rows a second."""

    new: bool
    prune: bool
    rate: int


async def show_status(settings: Settings, *, as_json: bool) -> None:
    """Print how many rows are under which key, column by column, and the keys that nothing is under."""
    keyring = _keyring(settings)
    async with operator_database(settings) as database:
        uses = await key_uses(database)
    used = rows_by_key(uses)
    rows = [(use.key_id, use.column, use.rows) for use in uses]
    rows += [(key, None, 0) for key in sorted(keyring.key_ids) if key not in used]
    table = Table("Key", "State", "Column", "Rows")
    for key, column, number in rows:
        state = _state(keyring, key)
        if as_json:
            print_json({"key": key, "state": state, "column": column, "rows": number})
        else:
            table.add_row(*map(plain, (key, state, column, f"{number:,}")))
    if not as_json:
        print_table(table)


async def rotate_keys(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """Make a key if that is wanted, encrypt everything under the active one, and remove others if that is wanted.

    Raises ConflictError where something is left under another key.
    """
    async with operator_database(settings) as database:
        keyring = _keyring(settings)
        await check_encryption_key(database, keyring)
        clock = SystemClock()
        if wanted.new:
            replaced, made = keyring.active_key_id, add_key(settings, clock.now())
            await note_key(database, "created", made, clock.now(), after={"replaces": replaced})
            print(f"key {made} encrypts from now on", file=sys.stderr)
            keyring = _keyring(settings)
        uses = rows_by_key(await key_uses(database))
        total = sum(uses.values()) - uses.get(keyring.active_key_id, 0)
        rotation = KeyRotation(database, keyring, rows_a_second=wanted.rate)
        with counting("Encrypting anew", total) as tell:
            rotated = await rotation.run(tell)
        used = rows_by_key(await key_uses(database))
        before, after = {"rows": _by_name(uses)}, {"rows": _by_name(used), "count": rotated.done}
        await note_key(database, "rotated", keyring.active_key_id, clock.now(), before=before, after=after)
        removed = prune_keys(settings, _known(used), clock.now()) if wanted.prune and not rotated.left else ()
        for key in removed:
            await note_key(database, "removed", key, clock.now())
    if as_json:
        told = {"key": keyring.active_key_id, "count": rotated.done, "remaining": rotated.left, "removed": removed}
        print_json(told)
    else:
        print(
            f"{_rows(rotated.done)} encrypted anew; all is under key {keyring.active_key_id}"
            if not rotated.left
            else f"{_rows(rotated.done)} encrypted anew"
        )
        for key in removed:
            print(f"key {key} removed")
    _require_complete(rotated)


def _keyring(settings: Settings) -> Keyring:
    """The keys of a gateway that there is already: none are made for a database that has others."""
    if key_provider(settings).source is None and not (settings.data_dir / SECRETS_FILE).exists():
        raise StartupError(
            f"there is no {settings.data_dir / SECRETS_FILE}, and MSGCORE_ENCRYPTION_KEY is not set; "
            "give this command the settings of the gateway"
        )
    return open_keyring(settings, load_secrets(settings))


def _state(keyring: Keyring, key: str | None) -> str:
    if key == keyring.active_key_id:
        return "active"
    if key is None:
        return "damaged"
    return "decrypts" if key in keyring.key_ids else "unknown"


def _by_name(rows: Mapping[str | None, int]) -> dict[str, int]:
    return {key or "damaged": number for key, number in rows.items()}


def _known(used: Collection[str | None]) -> Collection[str]:
    return {key for key in used if key is not None}


def _rows(number: int) -> str:
    return f"{number:,} {'row' if number == 1 else 'rows'}"


def _require_complete(rotated: Rotated) -> None:
    if rotated.unreadable:
        raise ConflictError(
            f"{_rows(rotated.unreadable)} cannot be read with any key at hand; `msgcore keys status` shows which: give "
            "their key in MSGCORE_DECRYPTION_KEYS and run this again, or enter those credentials and secrets anew"
        )
    if rotated.left:
        raise ConflictError(f"{_rows(rotated.left)} are left, which others were changing: run this again")
