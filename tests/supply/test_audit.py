"""Known vulnerabilities fail the audit, unless somebody says why not and until when; no network does not."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import date
from pathlib import Path

import pytest
from aiohttp import web
from supply.audit import AuditError, Found, Ignored, UnreachableError, audit, check, read_ignored
from supply.locks import read_lock

from servers.http_sink import HttpSink, http_sink

ROOT = Path(__file__).parents[2]
TODAY = date(2030, 1, 31)
HASH = f"--hash=sha256:{'0' * 64}"
# The shape of https://google.github.io/osv.dev/post-v1-query/
KNOWN = {
    ("holey", "1.0"): {
        "id": "GHSA-aaaa-bbbb-cccc",
        "aliases": ["CVE-2030-1"],
        "summary": "A hole",
        "affected": [
            {
                "package": {"name": "holey", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
            }
        ],
    },
    ("elsewhere", "2.0"): {
        "id": "PYSEC-2030-2",
        "summary": "On Windows only",
        "affected": [{"package": {"name": "elsewhere", "ecosystem": "PyPI"}}],
    },
}


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is asked directly, whatever way this machine has to the internet."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def nothing_ignored(tmp_path: Path) -> Path:
    path = tmp_path / "ignored.toml"
    path.touch()
    return path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    path.write_text(
        f"elsewhere==2.0 ; sys_platform == 'win32' {HASH}\nholey==1.0 {HASH}\nholey==1.1 {HASH}\nsound==3.0 {HASH}\n"
    )
    return path


async def run(*arguments: str | Path) -> tuple[int | None, str]:
    """`make audit`, with the status and all that is printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "supply.audit", *arguments, cwd=ROOT, stdout=-1, stderr=-2
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def test_what_is_known_fails_and_names_all_that_is_needed(lock: Path, nothing_ignored: Path) -> None:
    async with http_sink() as server:
        server.answer = lambda _request: answer_as_osv(server)
        status, printed = await run(lock, "--ignored", nothing_ignored, "--osv-url", f"{server.url}/v1/query")
        assert status == 1, printed
        assert "holey 1.0 (some.lock): CVE-2030-1, GHSA-aaaa-bbbb-cccc; fixed in 1.1: A hole" in printed
        assert "elsewhere 2.0 (some.lock): PYSEC-2030-2; not fixed yet: On Windows only" in printed
        assert "sound" not in printed
        assert "holey 1.1" not in printed

        found = await asyncio.to_thread(audit, {lock.name: read_lock(lock)}, f"{server.url}/v1/query")
    check_excuses(found)


async def answer_as_osv(server: HttpSink) -> web.StreamResponse:
    question = json.loads(server.requests[-1].body)
    found = KNOWN.get((question["package"]["name"], question["version"]))
    return web.json_response({"vulns": [found]} if found else {})


def check_excuses(found: list[Found]) -> None:
    by_alias = Ignored("CVE-2030-1", "holey", "not reached", TODAY)
    by_id = Ignored("PYSEC-2030-2", "elsewhere", "no Windows here", TODAY)
    check(found, [by_alias, by_id], {})
    check([], [], {})
    for ignored, problem in (
        ([by_alias], "PYSEC-2030-2"),
        ([by_alias, Ignored("PYSEC-2030-2", "holey", "the wrong package", TODAY)], "PYSEC-2030-2"),
        ([by_alias, by_id, Ignored("CVE-2030-3", "sound", "mended long ago", TODAY)], "CVE-2030-3 of sound"),
    ):
        with pytest.raises(AuditError, match=problem):
            check(found, ignored, {})


async def test_where_nobody_can_be_asked_it_says_so_and_passes(lock: Path, nothing_ignored: Path) -> None:
    closed = "http://127.0.0.1:9"
    status, printed = await run(lock, "--ignored", nothing_ignored, "--osv-url", closed)
    assert status == 0, printed
    assert f"{closed} cannot be asked" in printed
    assert "KNOWN VULNERABILITIES WERE NOT LOOKED FOR" in printed
    async with http_sink() as server:
        for answered, body, error in (
            (503, b"", UnreachableError),
            (403, b"blocked", UnreachableError),
            (200, b"<html>Log in to this network", UnreachableError),
            (404, b"", AuditError),
        ):
            server.answers(answered, body=body)
            with pytest.raises(error):
                await asyncio.to_thread(audit, {"some.lock": read_lock(lock)}, server.url)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ('id="X"\npackage="y"\nreason="z"\nuntil=2030-01-31', None),
        ('id="X"\npackage="y"\nreason="z"\nuntil=2030-01-30', "until 2030-01-30; look at it again"),
        ('id="X"\npackage="y"\nreason="z"\nuntil=2031-01-31', "180 days are the most"),
        ('id="X"\npackage="y"\nreason=" "\nuntil=2030-01-31', "X has no reason"),
        ('id="X"\npackage="y"\nreason="z"', "until"),
        ('id="X"\npackage="y"\nreason="z"\nuntil=2030-01-31\nwhy="z"', "why"),
        ("id=", r"bad\.toml"),
    ],
)
def test_what_is_ignored_has_a_reason_and_an_end(tmp_path: Path, fields: str, problem: str | None) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"[[ignore]]\n{fields}\n")
    if problem is None:
        assert [each.id for each in read_ignored(path, TODAY)] == ["X"]
    else:
        with pytest.raises(AuditError, match=problem):
            read_ignored(path, TODAY)
