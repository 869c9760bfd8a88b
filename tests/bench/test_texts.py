"""The bench of texts, small: everything is delivered, and it prints what it promises."""

from __future__ import annotations

import re

import pytest

from bench import texts


def test_a_small_run(capsys: pytest.CaptureFixture[str]) -> None:
    texts.main(["--requests", "20", "--rounds", "1", "--lengths", "600"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "gateway (sqlite)"
    assert [line.split()[0] for line in printed[1:]] == ["text", "markdown"]
    pattern = r"600 characters +\d+ messages/s +bare +\d+ +ratio \d+\.\d\d +CPU +\d+ us a message"
    assert all(re.search(pattern, line) for line in printed[1:])
