"""A resolver at the edge of the machine, for tests of what names may resolve to."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from msgcore.security.egress import AddrInfo


class FakeDns:
    """Gives one answer after the other, whatever the name; the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, port: int) -> Sequence[AddrInfo]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [addr_info(text, port) for text in answer]


def addr_info(text: str, port: int) -> AddrInfo:
    if ":" in text:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (text, port))
