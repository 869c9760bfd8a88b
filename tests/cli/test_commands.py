"""The command line: help, bad usage, settings, and failures that are one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import msgcore as package
from msgcore.cli.settings_table import settings_markdown
from servers.command import Msgcore

ROOT = Path(__file__).parents[2]


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("msgcore: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_version_and_help(msgcore: Msgcore) -> None:
    assert msgcore.run("--version").stdout == f"msgcore {package.__version__}\n"
    shown = msgcore.run("--help").stdout
    for command in ("serve", "api", "worker", "migrate", "config", "doctor", "demo"):
        assert f" {command} " in shown


@pytest.mark.parametrize("arguments", [("nonsense",), ("serve", "--nonsense"), ("config", "more")])
def test_bad_usage_has_status_2(msgcore: Msgcore, arguments: tuple[str, ...]) -> None:
    done = msgcore.run(*arguments)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr


@pytest.mark.parametrize("command", ["serve", "api", "worker", "migrate", "config"])
def test_a_bad_setting_is_one_line(msgcore: Msgcore, command: str) -> None:
    assert_one_line(msgcore.run(command, MSGCORE_CONCURRENCY="many"), "MSGCORE_CONCURRENCY is 'many'", "whole number")
    assert not msgcore.data_dir.exists()


def test_an_unknown_variable_is_a_warning(msgcore: Msgcore) -> None:
    done = msgcore.run("config", MSGCORE_PROT="1")
    assert done.returncode == 0
    assert done.stderr == "msgcore: warning: MSGCORE_PROT is not a setting and is ignored; did you mean MSGCORE_PORT?\n"


def test_config_shows_values_and_masks_secrets(msgcore: Msgcore) -> None:
    done = msgcore.run("config", JWT_SECRET="hunter2-" * 5, DATABASE_URL="postgresql://u:hunter2@h/db")
    rows = done.stdout.splitlines()
    assert any("MSGCORE_PORT" in row and str(msgcore.port) in row for row in rows)
    assert any("MSGCORE_JWT_SECRET" in row and "*****" in row and "JWT_SECRET" in row for row in rows)
    assert "hunter2" not in done.stdout + done.stderr


def test_the_documented_settings_are_the_settings() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert settings_markdown() in page, "paste what `msgcore config --markdown` prints into docs/configuration.md"


def test_config_prints_the_documented_table(msgcore: Msgcore) -> None:
    assert msgcore.run("config", "--markdown").stdout == settings_markdown()


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_database_that_is_away_is_one_line_without_its_password(msgcore: Msgcore, command: str) -> None:
    done = msgcore.run(command, DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{msgcore.port}/x")
    assert_one_line(done, "MSGCORE_DATABASE_URL: cannot connect to 127.0.0.1", "refused")
    assert "hunter2" not in done.stderr


def test_a_database_file_that_is_none_is_one_line(msgcore: Msgcore) -> None:
    msgcore.data_dir.mkdir()
    file = msgcore.data_dir / "msgcore.db"
    file.write_bytes(b"something else entirely" * 100)
    file.chmod(0o600)  # else it is said, too, that it was open to others
    before = file.read_bytes()
    assert_one_line(
        msgcore.run("migrate"),
        "file is not a database; MsgCore must be able to write the file and its folder, which MSGCORE_DATABASE_URL or MSGCORE_DATA_DIR names",
    )
    assert file.read_bytes() == before
