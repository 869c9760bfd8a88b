"""What is installed is what the lock files name, and nothing is installed without its hash being checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from supply.locks import LockError, read_lock

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_version_with_hashes_and_nothing_else(name: str) -> None:
    locked = read_lock(ROOT / name)  # refuses an index's URL, a range, a path, and what has no hash
    pins = [(each.name, each.version) for each in locked]
    assert locked
    assert len(set(pins)) == len(pins)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.com/simple",
        "yarl>=1 \\\n    --hash=sha256:" + "0" * 64,
        "yarl==1.0",
        "yarl==1.0 ; sys_platform == 'win32'",
        "yarl==1.0 \\\n    --hash=md5:" + "0" * 32,
        "yarl @ https://example.com/yarl.whl \\\n    --hash=sha256:" + "0" * 64,
        "-e .",
    ],
)
def test_what_is_no_lock(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(line + "\n")
    with pytest.raises(LockError, match=r"some\.lock"):
        read_lock(lock)


def test_the_locks_agree_with_each_other_and_with_what_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run, dev, build = (read_lock(ROOT / f"requirements{kind}.lock") for kind in ("", "-dev", "-build"))
    assert set(run) <= set(dev), "make lock"
    assert set(build) <= set(dev), "make lock"
    versions = {each.name: each.version for each in dev}
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for requirement in (Requirement(each) for each in asked if isinstance(each, str)):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            f"{requirement}: make lock"
        )


def test_every_install_of_a_lock_checks_hashes() -> None:
    places = [ROOT / "Makefile", ROOT / "deploy" / "Dockerfile", *(ROOT / "tests").rglob("*.py")]
    places = [each for each in places if each != Path(__file__)]
    installs = [
        line
        for place in places
        for line in place.read_text().replace("\\\n", " ").splitlines()
        if re.search(r"(-r|--requirement)\b.*(\.lock|LOCK)", line)
    ]
    assert len(installs) >= 4
    assert [line for line in installs if "--require-hashes" not in line] == []
