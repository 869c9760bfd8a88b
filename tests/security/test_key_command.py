"""Keys that a command prints: what is taken, and how each failure reads, without what was printed."""

from __future__ import annotations

import base64
import re
import shlex
import time
import traceback
from pathlib import Path

import pytest

from msgcore.config import load_settings
from msgcore.core.errors import InvalidInputError, StartupError
from msgcore.security import key_command
from msgcore.security.key_command import LARGEST, ask_for_keys
from msgcore.security.keyring import Keyring
from msgcore.security.keys import add_key, open_keyring, prune_keys
from msgcore.security.secrets import load_secrets
from security.test_keys import FIRST, LATER, NOW, SECOND
from servers.patience import PATIENCE

WRAPPED = base64.b64encode(bytes.fromhex(FIRST)).decode()


def shell(script: str) -> str:
    return f"sh -c {shlex.quote(script)}"


@pytest.mark.parametrize(
    ("script", "keys"),
    [
        pytest.param(f"echo {FIRST}", [FIRST], id="hex digits"),
        pytest.param(f"printf {FIRST.upper()}", [FIRST], id="capital ones, without the end of the line"),
        pytest.param(f"echo {WRAPPED}", [FIRST], id="base64, as key managers print bytes"),
        pytest.param(f"echo {SECOND}; echo; echo ' {WRAPPED} '", [SECOND, FIRST], id="several, the first one encrypts"),
        pytest.param(f"echo trouble >&2; echo {FIRST}", [FIRST], id="with words on standard error"),
        pytest.param(f'test -z "$MSGCORE_JWT_SECRET$JWT_SECRET" && echo {FIRST}', [FIRST], id="without our secrets"),
        pytest.param(f'test "$VAULT_TOKEN" = its && ! read x && echo {FIRST}', [FIRST], id="with the key manager's"),
    ],
)
def test_keys_are_what_it_prints(script: str, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSGCORE_JWT_SECRET", "JWT_SECRET", "VAULT_TOKEN"):
        monkeypatch.setenv(name, "its")
    found = ask_for_keys(shell(script))
    assert [key.hex() for key in (found.active, *found.others)] == keys


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("/nowhere/keys now", "/nowhere/keys cannot be run (no such file", id="no program"),
        pytest.param("/", "/ cannot be run (permission denied)", id="a folder"),
        pytest.param(shell(f"echo {FIRST}; exit 3"), "sh ended with status 3; run it by hand", id="a failure"),
        pytest.param(shell(f"echo {FIRST}; kill -9 $$"), "sh ended with status -9", id="an end"),
        pytest.param(shell("echo hunter2 >&2"), "sh printed nothing", id="nothing"),
        pytest.param(shell(f"echo {SECOND}; echo {FIRST[:-2]}"), "no key (number 2)", id="a key too short"),
        pytest.param(shell(f"echo {FIRST}00"), "no key (number 1)", id="too long"),
        pytest.param(shell("echo aHVudGVyMg=="), "32 bytes in base64", id="another length in base64"),
        pytest.param(shell(f"echo Key: {FIRST}"), "no key (number 1)", id="more than the key"),
        pytest.param(shell(f"echo {FIRST}; yes {SECOND}"), "sh prints more than keys", id="without an end"),
        pytest.param(shell(f"echo {FIRST}; head -c {LARGEST} /dev/zero"), "prints more", id="a file"),
    ],
)
def test_failures_are_one_line_without_what_was_printed(command: str, told: str) -> None:
    with pytest.raises(StartupError) as caught:
        ask_for_keys(command)
    assert str(caught.value).startswith("MSGCORE_ENCRYPTION_KEY_COMMAND: ")
    assert told in str(caught.value)
    dump = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    shown = str(caught.value) + re.sub(
        r"    (command|words|process) = .*", "", dump.partition("ask_for_keys(command)")[2]
    )
    for secret in (FIRST[:-2], FIRST.upper(), SECOND, WRAPPED, "hunter2"):
        assert secret not in shown
    assert repr(bytes.fromhex(FIRST))[2:-1] not in shown


def test_who_is_slow_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_command, "SECONDS", 0.3)
    pid = tmp_path / "pid"
    with pytest.raises(StartupError, match="sh gave no key within 30 s"):
        ask_for_keys(shell(f"echo {FIRST}; sleep 600 & echo $! >{pid}; wait"))
    deadline = time.monotonic() + PATIENCE
    while "Z" not in _state(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _state(pid: int) -> str:
    """A letter of the process; Z where it has ended, whether its parent has looked or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_the_settings_that_name_a_command(tmp_path: Path) -> None:
    environ = {"MSGCORE_ENCRYPTION_KEY_COMMAND": shell(f"echo {SECOND}"), "MSGCORE_DECRYPTION_KEYS": FIRST}
    settings = load_settings(environ | {"MSGCORE_DATA_DIR": str(tmp_path)})
    ring = open_keyring(settings, load_secrets(settings))
    old = Keyring(bytes.fromhex(FIRST)).encrypt(b"old", context="a")
    assert (ring.active_key_id, ring.decrypt(old, context="a")) == (
        Keyring(bytes.fromhex(SECOND)).active_key_id,
        b"old",
    )
    with pytest.raises(InvalidInputError, match=r"MSGCORE_ENCRYPTION_KEY_COMMAND, which .* as the last line"):
        add_key(settings, NOW)
    with pytest.raises(InvalidInputError, match="let it print no more"):
        prune_keys(settings, [], LATER)
    assert SECOND not in repr(settings)
    production = {"MSGCORE_ENV": "production", "MSGCORE_JWT_SECRET": "s" * 32}
    assert load_settings(environ | production).encryption_key is None
    with pytest.raises(StartupError, match="are both set; set one"):
        load_settings(environ | {"MSGCORE_ENCRYPTION_KEY": FIRST})
    for nothing in ("''", "op 'read"):
        with pytest.raises(StartupError, match="MSGCORE_ENCRYPTION_KEY_COMMAND has a value"):
            load_settings({"MSGCORE_ENCRYPTION_KEY_COMMAND": nothing})
