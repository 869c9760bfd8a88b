"""`msgcore platforms new`: its files pass the linters, and their contract tests fail only by saying what comes next."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from msgcore.cli.new_platform import NEXT, make_platform
from msgcore.core.errors import ConflictError, InvalidInputError
from servers.processes import UNMEASURED

ROOT = Path(__file__).parents[2]
PARTS = ("src", "tests/contract", "tests/servers", "tests/platforms", "tests/specs", "tests/conftest.py")
PAGES = ("docs/platforms", "README.md", "pyproject.toml")
BIN = Path(sys.executable).parent
NAMES = ("paper-plane", "acme")
"""The second one comes before our own modules in the alphabet, which imports have to bear."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with two new platforms."""
    root = tmp_path_factory.mktemp("checkout")
    for part in (*PARTS, *PAGES):
        target = root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, target)
    for name in NAMES:
        made = run(root, sys.executable, "-m", "msgcore", "platforms", "new", name)
        assert made.returncode == 0, made.stderr
        assert f"pytest tests/contract -k {name}" in made.stdout
    return root


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | UNMEASURED | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root / 'tests'}"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=200)


def test_each_contract_test_that_fails_says_what_comes_next(copy: Path) -> None:
    suites = [f"tests/contract/test_{name}_contract.py" for name in ("platform", "capability", "calling", "receiving")]
    done = run(copy, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", "--tb=line", "--junitxml=found.xml",
               "-k", NAMES[0], *suites)  # fmt: skip
    cases = list(ET.parse(copy / "found.xml").iter("testcase"))
    failed = {str(case.get("name")): found for case in cases for found in case.findall("failure")}
    assert len(cases) > len(failed) > 0, done.stdout[-3000:]
    assert not list(ET.parse(copy / "found.xml").iter("error")), done.stdout[-3000:]
    silent = [name for name, found in failed.items() if NEXT not in str(found.get("message"))]
    assert not silent, f"these fail without saying what comes next: {silent}\n{done.stdout[-6000:]}"
    kinds = {name.partition("[")[0] for name in failed}
    assert {
        "test_nothing_is_left_of_what_the_generator_made",  # every place to be filled in
        "test_each_content_goes_out_as_the_platform_wants_it",  # the published description
        "test_each_sample_is_read_as_it_is_meant",  # where the samples are from
    } <= kinds


def test_what_is_made_passes_the_linters(copy: Path) -> None:
    folders = [
        str(copy / place / name.replace("-", "_"))
        for name in NAMES
        for place in ("src/msgcore/platforms", "tests/platforms")
    ]
    for command in (["ruff", "check", "--no-cache"], ["ruff", "format", "--check", "--no-cache"]):
        checked = run(copy, str(BIN / command[0]), *command[1:], *folders)
        assert checked.returncode == 0, checked.stdout
    checked = run(copy, str(BIN / "basedpyright"), "--pythonpath", sys.executable, folders[0])
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", ["Paper", "paper--plane", "1st", "paper_plane", "x" * 33, "class", "../a", ""])
def test_a_bad_name_makes_nothing(name: str) -> None:
    with pytest.raises(InvalidInputError, match="no name of a platform"):
        make_platform(name, None)


@pytest.mark.parametrize("name", ["telegram", "live", "error-table"])
def test_a_name_that_is_taken_makes_nothing(name: str) -> None:
    """By another platform, or by a module beside the platforms, which the folder would hide."""
    with pytest.raises(ConflictError, match=name):
        make_platform(name, None)
