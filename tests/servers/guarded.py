"""A real server that a test process starts in a folder of its own, and that ends with the test process."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from servers.patience import PATIENCE
from servers.postgres import GUARD


class GuardedServer(ABC):
    """Starts a program and waits until it answers; all it writes is in `folder`, which goes with it."""

    name: ClassVar[str]
    logs: ClassVar[Sequence[str]] = ("output",)
    """Files of the folder that tell why it did not come up."""
    faults: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What `probe` raises while it is not up."""
    stop_signal: ClassVar[str] = "TERM"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"msgcore-{self.name}-"))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The program and its arguments; writes its settings before, where they are a file."""

    @abstractmethod
    def probe(self) -> object:
        """Ask it something. Raises one of `faults` while it is not up."""

    def how(self) -> Mapping[str, Any]:
        """More arguments of `Popen`."""
        return {}

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = ["sh", "-c", GUARD.replace("-INT", f"-{self.stop_signal}"), "sh", *self.command()]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self.how(),
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.probe()
            except self.faults as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"{self.name} did not come up: {self.said()}") from error
                time.sleep(0.05)
            else:
                return

    def said(self) -> str:
        """The end of its logs."""
        logs = (self.folder / name for name in self.logs)
        return "".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())

    def stop(self) -> None:
        """End it, and every connection; what it keeps in its folder stays."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait(PATIENCE)
            self.process = None

    def close(self) -> None:
        """Stop, and delete everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
