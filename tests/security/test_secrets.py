"""Secrets made on the first start, and what is refused afterwards."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msgcore.config import Settings
from msgcore.core.errors import StartupError
from msgcore.security.secrets import load_secrets

KEY = "0a" * 32
SECRET = "s" * 32


def test_the_first_start_makes_private_files_and_the_next_reads_them(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "data")
    first = load_secrets(settings)
    file = settings.data_dir / "secrets.json"
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in settings.data_dir.iterdir()] == ["secrets.json"]
    assert len(first.encryption_key) == 32
    assert len(first.jwt_secret) >= 32
    assert load_secrets(settings) == first
    assert load_secrets(Settings(data_dir=tmp_path / "other")) != first


def test_given_secrets_need_no_file(tmp_path: Path) -> None:
    given = load_secrets(Settings(data_dir=tmp_path / "data", encryption_key=KEY, jwt_secret=SECRET))  # type: ignore[arg-type]
    assert (given.jwt_secret, given.encryption_key) == (SECRET, bytes.fromhex(KEY))
    assert not (tmp_path / "data").exists()


def test_one_given_secret_replaces_only_its_own(tmp_path: Path) -> None:
    stored = load_secrets(Settings(data_dir=tmp_path))
    mixed = load_secrets(Settings(data_dir=tmp_path, jwt_secret=SECRET))  # type: ignore[arg-type]
    assert (mixed.jwt_secret, mixed.encryption_key) == (SECRET, stored.encryption_key)


@pytest.mark.parametrize(
    ("given", "kept", "variable"),
    [
        ({"encryption_key": KEY}, "jwtSecret", "MSGCORE_ENCRYPTION_KEY"),
        ({"encryption_key_command": f"echo {KEY}"}, "jwtSecret", "MSGCORE_ENCRYPTION_KEY"),
        ({"jwt_secret": SECRET}, "encryptionKey", "MSGCORE_JWT_SECRET"),
    ],
)
def test_the_file_has_what_no_setting_gives(tmp_path: Path, given: dict[str, str], kept: str, variable: str) -> None:
    first = load_secrets(Settings(data_dir=tmp_path, **given))  # type: ignore[arg-type]
    content = json.loads((tmp_path / "secrets.json").read_bytes())
    assert list(content) == [kept]
    assert load_secrets(Settings(data_dir=tmp_path, **given)) == first  # type: ignore[arg-type]
    with pytest.raises(StartupError, match=rf"secrets\.json has no \w+, and {variable} is not set; set it as it was"):
        load_secrets(Settings(data_dir=tmp_path))
    assert json.loads((tmp_path / "secrets.json").read_bytes()) == content, "another key would open nothing"


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    made = load_secrets(Settings(data_dir=tmp_path))
    assert made.jwt_secret not in repr(made)
    assert made.encryption_key.hex() not in repr(made)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys; from msgcore.config import Settings; from msgcore.security.secrets import load_secrets;"
        "sys.stdin.read(); print(load_secrets(Settings(data_dir=sys.argv[1])).jwt_secret)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor() as pool:
        answers = set(pool.map(lambda process: process.communicate()[0], processes))
    assert answers == {load_secrets(Settings(data_dir=tmp_path)).jwt_secret + "\n"}
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_threads_that_race_agree(tmp_path: Path) -> None:
    for attempt in range(50):
        settings = Settings(data_dir=tmp_path / str(attempt))
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(load_secrets, [settings] * 8))
        assert all(secrets == made[0] for secrets in made)


def test_a_file_open_to_others_is_closed(tmp_path: Path) -> None:
    made = load_secrets(Settings(data_dir=tmp_path))
    file = tmp_path / "secrets.json"
    file.chmod(0o644)
    assert load_secrets(Settings(data_dir=tmp_path)) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", ["", "[]", "not json", json.dumps({"jwtSecret": SECRET, "encryptionKey": "short"}), "\udcff"]
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(content, errors="surrogateescape")
    before = file.read_bytes()
    with pytest.raises(StartupError, match=r"secrets\.json is damaged; restore it") as caught:
        load_secrets(Settings(data_dir=tmp_path))
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before


def test_a_data_directory_that_is_a_file_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StartupError, match=r"^MSGCORE_DATA_DIR: .* cannot be used") as caught:
            load_secrets(Settings(data_dir=path))
        assert "\n" not in str(caught.value)


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that other users reach and nobody but root may write to."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent, "closed")
        folder.mkdir(mode=0o555)
        yield folder


def test_a_read_only_data_directory_names_the_setting(closed_folder: Path) -> None:
    """Root may write anywhere, so the attempt is made as another user where the tests run as root."""
    code = (
        "import os, sys; from msgcore.config import Settings; from msgcore.security.secrets import load_secrets\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: load_secrets(Settings(data_dir=sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    command = [sys.executable, "-c", code, closed_folder]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f"MSGCORE_DATA_DIR: {closed_folder} cannot be used (not writable)")
    assert list(closed_folder.iterdir()) == []
