"""The `msgcore` command with settings of its own: run to its end, or in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from msgcore.config import known_variables
from servers.gateway import free_port
from servers.patience import PATIENCE
from servers.processes import run

READY = "ready on "


class Msgcore:
    """Runs the command, to its end or in the background."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self.environ = {name: value for name, value in os.environ.items() if name not in known_variables()} | {
            "MSGCORE_DATA_DIR": str(self.data_dir),
            "MSGCORE_PORT": str(self.port),
            "MSGCORE_EGRESS_ALLOW": "127.0.0.0/8",
        }
        self._running: list[subprocess.Popen[str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run([*arguments], self.environ | environ)

    def start(self, *arguments: str, until: str = READY, **environ: str) -> tuple[subprocess.Popen[str], list[str]]:
        """The process, and what it printed up to and with the line that starts with `until`."""
        process = subprocess.Popen(
            self._command(arguments),
            env=self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith(until):
                return process, lines
        raise AssertionError(f"it ended with {process.wait()}: {process.communicate()[1]}")

    def end(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; gives status and log."""
        process.send_signal(number)
        _, log = process.communicate(timeout=PATIENCE)
        return process.returncode, log

    def kill_all(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "msgcore", *arguments]
