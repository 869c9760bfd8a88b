"""The life of a server process: first start, later starts, signals, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import urllib.request
from typing import Any

from msgcore.cli.welcome import next_steps
from servers.command import Msgcore
from servers.patience import PATIENCE


def health(msgcore: Msgcore) -> dict[str, Any]:
    with urllib.request.urlopen(f"{msgcore.url}/api/v1/health", timeout=PATIENCE) as answer:
        return json.load(answer)


def open_to_others(msgcore: Msgcore) -> list[str]:
    return [path.name for path in msgcore.data_dir.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_first_start_makes_everything_and_says_what_is_next(msgcore: Msgcore) -> None:
    process, lines = msgcore.start("serve")
    assert lines[0] == "MsgCore starts for the first time and made:"
    for name in ("", "/secrets.json", "/msgcore.db"):
        assert any(line.startswith(f"  {msgcore.data_dir}{name}  ") for line in lines)
    assert lines[-1] == f"ready on {msgcore.url}"
    assert stat.S_IMODE(msgcore.data_dir.stat().st_mode) == 0o700
    assert {path.name for path in msgcore.data_dir.iterdir()} >= {
        "secrets.json",
        "msgcore.db",
        "msgcore.db-wal",
        "blobs",
    }
    assert open_to_others(msgcore) == []
    assert health(msgcore)["setupRequired"] is True
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert process.stdout is not None
    assert process.stdout.read() == next_steps(msgcore.url) + "\n"


def test_later_starts_print_one_line(msgcore: Msgcore) -> None:
    assert msgcore.end(msgcore.start("serve")[0])[0] == 0
    for name, mode in (("msgcore.db", 0o644), ("secrets.json", 0o644), ("blobs", 0o755), ("spool", 0o755)):
        (msgcore.data_dir / name).chmod(mode)
    process, lines = msgcore.start("serve")
    assert lines == [f"ready on {msgcore.url}"]
    assert open_to_others(msgcore) == [], "an earlier version's files are closed"
    assert msgcore.end(process, signal.SIGINT)[0] == 0


def test_the_printed_commands_send_a_message(msgcore: Msgcore) -> None:
    msgcore.start("serve")
    script = "\n".join(line[2:] for line in next_steps(msgcore.url).splitlines() if line.startswith("  "))
    done = subprocess.run(["/bin/sh", "-e", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True)
    answer = json.loads(done.stdout[done.stdout.rindex('{"success"') :])
    assert answer["success"] is True
    assert answer["jobId"]


def test_a_second_signal_ends_it_at_once(msgcore: Msgcore) -> None:
    """The first stop is held up by a request that does not end."""
    process, _ = msgcore.start("serve", MSGCORE_SHUTDOWN_SECONDS="60")
    with socket.create_connection(("127.0.0.1", msgcore.port)) as client:
        client.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
        client.sendall(b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        for line in process.stderr:
            assert "requests cut off" not in line, "the stop is announced when it begins, not when the wait is over"
            if "stopping" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=4) == 143


def test_a_stop_says_what_it_waits_for(msgcore: Msgcore) -> None:
    assert _announced(msgcore, "serve", "ready on ") == ("requests in progress and deliveries in flight", "25 seconds")
    worker = _announced(msgcore, "worker", "msgcore worker ready", MSGCORE_SHUTDOWN_SECONDS="1.5")
    assert worker == ("deliveries in flight", "1.5 seconds")
    assert _announced(msgcore, "api", "ready on ") == ("requests in progress", "5 seconds")


def _announced(msgcore: Msgcore, command: str, until: str, **environ: str) -> tuple[str, str]:
    process, _ = msgcore.start(command, until=until, **environ)
    _, log = msgcore.end(process)
    (line,) = [event for event in map(json.loads, log.splitlines()) if event["event"] == "stopping"]
    assert line["hint"] == "a second signal ends it at once"
    return line["waits_for"], line["waits_at_most"]


def test_a_port_in_use_is_one_line(msgcore: Msgcore) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", msgcore.port))
        other.listen()
        done = msgcore.run("serve")
    assert done.returncode == 1
    assert re.fullmatch(rf"msgcore: MSGCORE_PORT: 127\.0\.0\.1:{msgcore.port} is already in use; .+\n", done.stderr)
    assert not msgcore.data_dir.exists()


def test_a_second_server_on_the_same_port_is_refused(msgcore: Msgcore) -> None:
    msgcore.start("serve")
    done = msgcore.run("serve")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is already in use" in done.stderr
    assert health(msgcore)["status"]


def test_a_second_server_on_the_same_data_is_refused(msgcore: Msgcore) -> None:
    process, _ = msgcore.start("serve")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = msgcore.run("serve", MSGCORE_PORT=str(port))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("msgcore: ")
    assert msgcore.end(process)[0] == 0


def test_a_data_directory_that_cannot_be_used_is_one_line(msgcore: Msgcore) -> None:
    msgcore.data_dir.write_text("a file")
    done = msgcore.run("serve")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"msgcore: MSGCORE_DATA_DIR: {msgcore.data_dir} cannot be used")
    assert msgcore.data_dir.read_text() == "a file"


def test_given_secrets_still_get_a_data_directory_for_the_database(msgcore: Msgcore) -> None:
    process, _ = msgcore.start("serve", MSGCORE_JWT_SECRET="s" * 32, MSGCORE_ENCRYPTION_KEY="0a" * 32)
    assert not (msgcore.data_dir / "secrets.json").exists()
    assert msgcore.end(process)[0] == 0


def test_another_encryption_key_is_one_line_and_changes_nothing(msgcore: Msgcore) -> None:
    msgcore.end(msgcore.start("serve")[0])
    before = snapshot(msgcore)
    done = msgcore.run("serve", MSGCORE_ENCRYPTION_KEY="0a" * 32)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "MSGCORE_ENCRYPTION_KEY" in done.stderr
    assert snapshot(msgcore) == before


def test_a_database_of_a_newer_version_is_one_line_and_changes_nothing(msgcore: Msgcore) -> None:
    msgcore.end(msgcore.start("serve")[0])
    with sqlite3.connect(msgcore.data_dir / "msgcore.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'f00d'")
    before = snapshot(msgcore)
    done = msgcore.run("serve")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "newer" in done.stderr
    assert snapshot(msgcore) == before


def test_migrate_then_api_and_worker_each_on_its_own(msgcore: Msgcore) -> None:
    refused = msgcore.run("api")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "msgcore migrate" in refused.stderr
    assert "applied" in msgcore.run("migrate").stdout
    assert msgcore.run("migrate").stdout == "nothing to do, the database is up to date\n"
    worker, _ = msgcore.start("worker", until="msgcore worker ready")
    api, _ = msgcore.start("api")
    assert health(msgcore)["status"]
    assert msgcore.end(api)[0] == 0
    assert msgcore.end(worker)[0] == 0


def test_log_lines_are_json_with_a_pipe_and_hold_no_secret(msgcore: Msgcore) -> None:
    process, _ = msgcore.start("serve", MSGCORE_LOG_LEVEL="debug")
    made = json.loads((msgcore.data_dir / "secrets.json").read_text()).values()
    health(msgcore)
    _, log = msgcore.end(process)
    assert all(json.loads(line)["event"] for line in log.splitlines())
    secrets = [text for each in made for text in (each if isinstance(each, list) else [each])]
    assert secrets
    assert not any(secret in log for secret in secrets)


def snapshot(msgcore: Msgcore) -> dict[str, Any]:
    """The tables and rows of the database, and the secrets file."""
    with sqlite3.connect(msgcore.data_dir / "msgcore.db") as database:
        return {"database": list(database.iterdump()), "secrets": (msgcore.data_dir / "secrets.json").read_bytes()}
