"""The keys of an installation: found by running processes, retired, removed; and where a command cannot change them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from msgcore.config import Settings, describe, load_settings
from msgcore.core.errors import InvalidInputError, StartupError
from msgcore.observability.logging import redactor_for
from msgcore.security.keyring import DecryptionError, Keyring
from msgcore.security.keys import SETTLING, add_key, open_keyring, prune_keys
from msgcore.security.secrets import load_secrets
from msgcore.security.secrets_file import SECRETS_FILE

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + SETTLING
FIRST, SECOND = "0a" * 32, "0b" * 32


def keyring(settings: Settings) -> Keyring:
    return open_keyring(settings, load_secrets(settings))


def test_running_processes_find_a_new_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    sender, api = keyring(settings), keyring(settings)
    old = sender.encrypt(b"old", context="a")
    made = add_key(settings, NOW)
    assert api.encrypt(b"new", context="b").startswith(f"v1:{made}:"), "nothing more comes under the old key"
    assert sender.active_key_id != made
    assert sender.decrypt(api.encrypt(b"new", context="b"), context="b") == b"new", "it looked for the key"
    for ring in (sender, api, keyring(settings)):
        assert ring.decrypt(old, context="a") == b"old"
        assert ring.active_key_id == made
    assert (tmp_path / SECRETS_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [SECRETS_FILE]


def test_keys_go_when_nothing_is_under_them(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    running = keyring(settings)
    first = running.active_key_id
    old = running.encrypt(b"old", context="a")
    add_key(settings, NOW)
    refused = {
        "rows are under it: run `msgcore keys rotate` first": ([first], LATER),
        "again in 1 s": ([], LATER - timedelta(seconds=1)),
    }
    for message, (used, now) in refused.items():
        with pytest.raises(InvalidInputError, match=message):
            prune_keys(settings, used, now)
    assert prune_keys(settings, [keyring(settings).active_key_id], LATER) == [first]
    assert prune_keys(settings, [], LATER) == []
    running.encrypt(b"", context="a")
    assert running.decrypt(old, context="a") == b"old", "what was read before the rotation is still at work"
    with pytest.raises(DecryptionError, match=first):
        keyring(settings).decrypt(old, context="a")


def test_of_keys_made_at_once_none_is_lost(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    first = keyring(settings).active_key_id
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: add_key(settings, NOW), range(20)))
    assert keyring(settings).key_ids == {first, *made}


def test_a_file_that_cannot_be_read_again_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(data_dir=tmp_path)
    running = keyring(settings)
    running.encrypt(b"", context="a")
    file = tmp_path / SECRETS_FILE
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    token = running.encrypt(b"x", context="a")
    file.write_text(json.dumps({"jwtSecret": json.loads(content)["jwtSecret"]}))
    assert running.decrypt(running.encrypt(b"x", context="a"), context="a") == b"x"
    file.unlink()
    assert running.decrypt(running.encrypt(b"x", context="a"), context="a") == b"x"
    file.write_bytes(content)
    assert keyring(settings).decrypt(token, context="a") == b"x"
    assert "its keys stay as they are" in caplog.text
    assert json.loads(content)["encryptionKey"] not in caplog.text


def test_keys_of_the_environment(tmp_path: Path) -> None:
    old = Keyring(bytes.fromhex(FIRST)).encrypt(b"old", context="a")
    environ = {"MSGCORE_ENCRYPTION_KEY": SECOND, "MSGCORE_DATA_DIR": str(tmp_path)}
    with pytest.raises(DecryptionError):
        keyring(load_settings(environ)).decrypt(old, context="a")
    environ["MSGCORE_DECRYPTION_KEYS"] = f"{'0c' * 32}, {FIRST}"
    settings = load_settings(environ)
    assert keyring(settings).decrypt(old, context="a") == b"old"
    assert keyring(settings).active_key_id == Keyring(bytes.fromhex(SECOND)).active_key_id
    with pytest.raises(InvalidInputError, match="swap the two"):
        add_key(settings, NOW)
    with pytest.raises(InvalidInputError, match="out of MSGCORE_DECRYPTION_KEYS, and restart"):
        prune_keys(settings, [], LATER)
    shown = f"{describe(settings, environ)} {settings!r} {load_secrets(settings)!r} {keyring(settings)!r}"
    for key in (FIRST, SECOND):
        assert key not in shown
        assert key not in redactor_for(settings).text(f"x {key} y")
    with pytest.raises(StartupError, match="MSGCORE_DECRYPTION_KEYS has a value") as raised:
        load_settings(environ | {"MSGCORE_DECRYPTION_KEYS": FIRST[:-1]})
    assert FIRST[:-1] not in str(raised.value)


def test_further_keys_of_the_environment_go_with_those_of_the_file(tmp_path: Path) -> None:
    settings = load_settings({"MSGCORE_DECRYPTION_KEYS": FIRST, "MSGCORE_DATA_DIR": str(tmp_path)})
    running = keyring(settings)
    add_key(settings, NOW)
    old = Keyring(bytes.fromhex(FIRST)).encrypt(b"old", context="a")
    running.encrypt(b"", context="a")
    for ring in (running, keyring(settings)):
        assert ring.decrypt(old, context="a") == b"old"
        assert len(ring.key_ids) == 3
