"""Two ways to start `msgcore`: as its users do, or forked from a process that has imported everything already.

A start costs more than a second of imports, and the suite starts more than a hundred gateways. A fork is a process as
real as any: it has a pid, signals, an exit status and a log.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Protocol

import coverage

MEASURE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
UNMEASURED = dict.fromkeys(MEASURE, "")
"""Variables of a process whose coverage is not measured: under load, measuring takes most of the time."""

MEASURED = {name: os.environ.get(name, "") for name in MEASURE}
"""And of one whose coverage is, where that of the tests is."""

IMPORTED = "msgcore.cli.serve"
PRELOADED = "servers.preloaded"

_forks = multiprocessing.get_context("forkserver")


class Process(Protocol):
    """What of `subprocess.Popen` is used."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


Start = Callable[[list[str], Mapping[str, str], Path], Process]


def execute(arguments: list[str], environ: Mapping[str, str], log: Path) -> Process:
    """Start `msgcore` as a new process; what it prints goes to the log."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "msgcore", *arguments],
            env=environ,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
        )


def fork(arguments: list[str], environ: Mapping[str, str], log: Path) -> Process:
    """The same, from a process that has the imports behind it."""
    return _fork(arguments, environ, Path(os.devnull), log, log)


def run(arguments: list[str], environ: Mapping[str, str], answer: str = "") -> subprocess.CompletedProcess[str]:
    """Fork, and wait for the end; `answer` is what it reads."""
    with tempfile.TemporaryDirectory(prefix="msgcore-run-") as folder:
        streams = [Path(folder) / name for name in ("in", "out", "err")]
        for stream in streams:
            stream.write_text(answer if stream.name == "in" else "")
        status = _fork(arguments, environ, *streams).wait(120)
        _, out, err = (stream.read_text(encoding="utf-8") for stream in streams)
        return subprocess.CompletedProcess(arguments, status, out, err)


def _fork(arguments: list[str], environ: Mapping[str, str], *streams: Path) -> Process:
    importlib.import_module(IMPORTED)  # once here as well: a fork does not measure the lines that run at import
    before = os.environ.copy()
    for name in MEASURE:
        os.environ.pop(name, None)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # Python 3.11 does not hand it over
    try:
        _forks.set_forkserver_preload([PRELOADED])
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ |= before
    return _Fork(_forks.Process(target=_run, args=(arguments, dict(environ), Path.cwd(), *streams), daemon=True))


class _Fork:
    def __init__(self, process: Any) -> None:
        self._process = process
        process.start()
        self.pid: int = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("msgcore", timeout or 0)
        return int(self._process.exitcode)

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


def _run(arguments: list[str], environ: dict[str, str], folder: Path, *streams: Path) -> None:
    assert PRELOADED in sys.modules, "what should have been imported before is not: each start takes a second more"
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    for number, stream in enumerate(streams):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing put /dev/null there
    # As they are in a new process, whatever the forking one does with them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = ["msgcore", *arguments]
    measuring = coverage.process_startup() if any(map(environ.get, MEASURE)) else None
    try:
        from msgcore.cli import main  # noqa: PLC0415 - not before the environment is that of this process

        main()
    finally:
        if measuring is not None:
            measuring.stop()
            measuring.save()
