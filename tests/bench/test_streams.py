"""The bench of streams, small: everything arrives at every client, and it prints what it promises."""

from __future__ import annotations

import re

import pytest

from bench import streams


def test_a_small_run(capsys: pytest.CaptureFixture[str]) -> None:
    streams.main(["--clients", "3", "--rate", "20", "--seconds", "0.5"])
    printed = capsys.readouterr().out
    for kind in ("stream", "websocket"):
        lines = [line for line in printed.splitlines() if line.startswith(f"{kind}: ")]
        assert len(lines) == 4
        assert all(re.search(r"p50 +\d+\.\d ms   p99 +\d+\.\d ms", line) for line in lines[:3])
        assert "KiB idle" in lines[3]
        assert "30 arrivals" in lines[3]
