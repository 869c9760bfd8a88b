"""`msgcore doctor`: what it finds, and that it makes nothing."""

from __future__ import annotations

import socket
import sqlite3
from typing import Any

import pytest

from msgcore.cli import doctor
from msgcore.cli.doctor import Finding, State, check_all, examine
from servers.command import Msgcore


@pytest.fixture(autouse=True)
def names_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name resolution is the edge of the machine: loopback stands for the world."""
    monkeypatch.setattr(doctor, "DNS_NAME", "localhost")


async def findings(msgcore: Msgcore, **environ: str) -> dict[str, Finding]:
    return {finding.subject: finding async for finding in check_all(msgcore.environ | environ)}


async def test_a_fresh_machine_is_well_and_stays_fresh(msgcore: Msgcore) -> None:
    found = await findings(msgcore)
    assert {name: finding.detail for name, finding in found.items() if finding.state is not State.OK} == {}
    assert "made on the first start" in found["data directory"].detail
    assert "made on the first start" in found["database"].detail
    assert "127.0.0.0/8" in found["outbound"].detail
    assert not msgcore.data_dir.exists()


async def test_a_running_server_is_recognised(msgcore: Msgcore) -> None:
    msgcore.start("serve")
    found = await findings(msgcore)
    assert found["port"].detail == f"127.0.0.1:{msgcore.port}, MsgCore is running there"
    assert found["database"].detail == "sqlite, schema up to date"
    assert found["encryption key"].detail == "fits the database"
    assert all(finding.state is State.OK for finding in found.values())


async def test_a_port_of_another_program_is_found(msgcore: Msgcore) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", msgcore.port))
        found = await findings(msgcore)
    assert found["port"].state is State.FAIL
    assert "is already in use" in found["port"].detail


async def test_a_bad_setting_ends_the_checks(msgcore: Msgcore) -> None:
    found = await findings(msgcore, MSGCORE_ENV="production")
    assert found["settings"] == Finding(
        "settings", State.FAIL, "MSGCORE_ENCRYPTION_KEY must be set when MSGCORE_ENV=production; "
        "generate a value with: openssl rand -hex 32",
    )  # fmt: skip
    assert list(found) == ["Python", "settings"]


async def test_an_unknown_variable_is_found(msgcore: Msgcore) -> None:
    found = await findings(msgcore, MSGCORE_HOTS="x")
    assert found["settings"].state is State.FAIL
    assert "did you mean MSGCORE_HOST?" in found["settings"].detail


async def test_a_data_directory_that_is_a_file_is_found(msgcore: Msgcore) -> None:
    msgcore.data_dir.write_text("x")
    found = await findings(msgcore)
    assert "set MSGCORE_DATA_DIR" in found["data directory"].detail


async def test_secrets_that_others_can_read_are_found(msgcore: Msgcore) -> None:
    msgcore.data_dir.mkdir()
    file = msgcore.data_dir / "secrets.json"
    file.write_text("{}")
    file.chmod(0o644)
    found = await findings(msgcore)
    assert found["data directory"].detail.endswith(f"run: chmod 600 {file}")


async def test_a_database_that_is_away_is_found_without_its_password(msgcore: Msgcore) -> None:
    found = await findings(msgcore, DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{msgcore.port}/x")
    assert found["database"].state is State.FAIL
    assert found["database"].detail.startswith("MSGCORE_DATABASE_URL: cannot connect to 127.0.0.1:")
    assert "hunter2" not in found["database"].detail


async def test_a_wrong_or_missing_key_is_found(msgcore: Msgcore) -> None:
    msgcore.end(msgcore.start("serve")[0])
    wrong = await findings(msgcore, MSGCORE_ENCRYPTION_KEY="0a" * 32)
    assert wrong["encryption key"].state is State.FAIL
    secrets = msgcore.data_dir / "secrets.json"
    secrets.rename(secrets.with_suffix(".away"))
    missing = await findings(msgcore)
    assert "is gone; restore it" in missing["encryption key"].detail
    assert not secrets.exists()


async def test_rows_under_a_key_that_is_not_given_are_found(msgcore: Msgcore) -> None:
    msgcore.end(msgcore.start("serve")[0])
    made = msgcore.run("keys", "rotate", "--new", "--json")
    assert (made.returncode, made.stdout.count('"count":1')) == (0, 1), made
    lost = {"MSGCORE_ENCRYPTION_KEY": "0a" * 32}
    refused = msgcore.run("keys", "rotate", **lost)
    assert (refused.returncode, "is not the key that this database" in refused.stderr) == (1, True)
    assert "unknown" in msgcore.run("keys", "status", **lost).stdout
    with sqlite3.connect(msgcore.data_dir / "msgcore.db") as database:
        database.execute("PRAGMA foreign_keys=OFF")
        database.execute(
            "INSERT INTO webhooks (id, project_id, name, url, events, secret_encrypted, is_active, created_at, updated_at)"
            " VALUES ('01920000-0000-7000-8000-000000000000', 'p', 'n', 'u', '[]', 'v1:00000000:x', 1, '2030', '2030')"
        )
    found = await findings(msgcore)
    assert found["encryption key"].detail == "1 rows are under keys that are not given; msgcore keys status shows which"
    left = msgcore.run("keys", "rotate", "--prune")
    assert left.returncode == 1
    assert "1 row cannot be read with any key at hand" in left.stderr
    assert "removed" not in left.stdout
    elsewhere = msgcore.run("keys", "status", MSGCORE_DATA_DIR=str(msgcore.data_dir / "x"))
    assert "give this command the settings of the gateway" in elsewhere.stderr


async def test_an_old_schema_is_found(msgcore: Msgcore) -> None:
    msgcore.data_dir.mkdir()
    with sqlite3.connect(msgcore.data_dir / "msgcore.db") as database:
        database.execute("VACUUM")
    found = await findings(msgcore)
    assert found["database"].state is State.FAIL
    assert "msgcore migrate" in found["database"].detail


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edge of the machine again: here its resolver knows no name of the world."""
    resolve = socket.getaddrinfo

    def refuse(host: str, *arguments: Any, **options: Any) -> list[Any]:
        if host == "world.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(doctor, "DNS_NAME", "world.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("offline")
async def test_names_that_do_not_resolve_are_a_warning(msgcore: Msgcore) -> None:
    found = await findings(msgcore)
    assert found["name resolution"].state is State.WARN
    assert "world.invalid does not resolve; check" in found["name resolution"].detail


@pytest.mark.usefixtures("offline")
async def test_a_warning_is_shown_and_does_not_fail(msgcore: Msgcore, capsys: pytest.CaptureFixture[str]) -> None:
    assert await examine(msgcore.environ)
    shown = capsys.readouterr().out
    assert "WARN" in shown
    assert "FAIL" not in shown


@pytest.mark.usefixtures("offline")
async def test_a_failure_beside_a_warning_fails(msgcore: Msgcore, capsys: pytest.CaptureFixture[str]) -> None:
    msgcore.data_dir.write_text("x")
    assert not await examine(msgcore.environ)
    shown = capsys.readouterr().out
    assert "WARN" in shown
    assert "FAIL" in shown


def test_the_command_prints_a_table_and_its_status_tells(msgcore: Msgcore) -> None:
    msgcore.data_dir.write_text("x")
    done = msgcore.run("doctor")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "OK" in done.stdout
    assert done.stderr == ""
