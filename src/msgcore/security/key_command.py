"""Asks another program for encryption keys: a key manager's own client, or a script that unwraps keys with it.

What it prints is nowhere else than in memory: not in errors, not in logs, not among the arguments of a process. What it
says on standard error is dropped, because nobody knows what that would be.
"""

from __future__ import annotations

import binascii
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, cast

from msgcore.config import known_variables
from msgcore.core.errors import StartupError
from msgcore.core.private import private_repr
from msgcore.security.keyring import Keys

SECONDS = 30.0
"""How long it may take."""

LARGEST = 64 * 1024
"""Bytes that it may print."""

_KEY_BYTES = 32
_VARIABLE = "MSGCORE_ENCRYPTION_KEY_COMMAND"
_BY_HAND = "run it by hand, as the user that the gateway runs as, to see why"
_TOO_LATE = f"gave no key within {SECONDS:.0f} s; {_BY_HAND}"


class _Printed:
    """What a program has printed so far: an object of its own, so that tracebacks with variables do not show it."""

    def __init__(self) -> None:
        self.data = bytearray()

    __repr__ = private_repr

    def keys(self) -> Sequence[bytes | None]:
        """The key of each line that is not blank; None for what is none."""
        return [_key(line) for line in map(bytes.strip, bytes(self.data).splitlines()) if line]

    def fault(self) -> str | None:
        """What is wrong with it."""
        if not self.keys():
            return f"printed nothing; {_BY_HAND}"
        if None in self.keys():
            return (
                f"printed what is no key (number {self.keys().index(None) + 1}); "
                "it has to print each on a line, as 64 hex digits or as 32 bytes in base64"
            )
        return None


def ask_for_keys(command: str) -> Keys:
    """The keys that a command prints, one a line, as 64 hex digits or as 32 bytes in base64. The first one encrypts.

    It is run without a shell, and without the variables that are settings of ours. Raises StartupError.
    """
    words = shlex.split(command)
    environ = {name: value for name, value in os.environ.items() if name not in known_variables()}
    try:
        process = subprocess.Popen(  # noqa: S603 - it is the operator who says what to run
            words,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it has started ends with it
        )
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "not a program").lower()
        raise StartupError(f"{_VARIABLE}: {words[0]} cannot be run ({reason}); give its full path") from None
    finally:
        del environ  # it may hold the key manager's password
    printed = _Printed()
    with process:
        try:
            fault = _read(process, printed)
        finally:
            if process.returncode is None:  # not waited for, so the number is still its own
                os.killpg(process.pid, signal.SIGKILL)
    fault = fault or printed.fault()
    if fault is not None:
        raise StartupError(f"{_VARIABLE}: {words[0]} {fault}")
    active, *others = filter(None, printed.keys())
    return Keys(active, others)


def _read(process: subprocess.Popen[bytes], printed: _Printed) -> str | None:
    """Read until the program has ended; what is wrong with how it did."""
    deadline = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        output = cast("IO[bytes]", process.stdout)
        selector.register(output, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            before = len(printed.data)
            printed.data += os.read(output.fileno(), LARGEST)
            if len(printed.data) > LARGEST:
                return f"prints more than keys; {_BY_HAND}"
            if len(printed.data) == before:
                return _end(process, deadline)
    return _TOO_LATE


def _end(process: subprocess.Popen[bytes], deadline: float) -> str | None:
    try:
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return _TOO_LATE
    return None if status == 0 else f"ended with status {status}; {_BY_HAND}"


def _key(line: bytes) -> bytes | None:
    try:
        key = binascii.unhexlify(line) if len(line) == 2 * _KEY_BYTES else binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        return None
    return key if len(key) == _KEY_BYTES else None
