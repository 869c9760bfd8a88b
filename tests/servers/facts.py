"""What tests have to know of a platform beside its declaration: `tests/platforms/<name>/facts.py`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact
from msgcore.core.content import Content
from msgcore.platforms.base import Account
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.registry import PlatformRegistry
from servers.http_sink import Request

FOLDER = Path(__file__).parents[1] / "platforms"


def _none(_url: str) -> dict[str, Any]:
    return {}


def _taken(_request: Request) -> tuple[int, Any]:
    return 200, {}


def _anything(_request: Request) -> str:
    return "any"


@dataclass(frozen=True)
class Throttle:
    """One documented way in which the platform asks to wait, and for how many seconds."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 1.0


@dataclass(frozen=True)
class Facts:
    """`answers` gives the platform's answer to a request: a status, and a JSON body. `check` compares a request
    with the platform's published description and gives the name of its operation; it raises AssertionError.
    `credentials` are those that name the server at this URL, for platforms whose address is a credential.
    `message_id` has the form of the platform's, `thread_id` that of its threads (None: as messages). Platforms without
    an HTTP API only need a `target`. `sign` makes the headers of a webhook request of the platform with this body.
    """

    target: str
    answers: Callable[[Request], tuple[int, Any]] = _taken
    check: Callable[[Request], str] = _anything
    throttles: Sequence[Throttle] = ()
    target_type: str = "user"
    message_id: str = "17"
    thread_id: str | None = None
    credentials: Callable[[str], dict[str, Any]] = _none
    sign: Callable[[Account, bytes], dict[str, str]] | None = None

    @property
    def other_target(self) -> str:
        """Somebody else: with another digit at the end, ids keep their form."""
        found = re.fullmatch(r"(.*)([0-9])([^0-9]*)", self.target)
        return f"{self.target}2" if found is None else f"{found[1]}{(int(found[2]) + 1) % 10}{found[3]}"

    @property
    def thread(self) -> str:
        """A thread, as the platform names it."""
        return self.thread_id or self.message_id


def every_action(message_id: str) -> list[Action]:
    """One of each kind."""
    return [
        React(message_id=message_id, emoji="\U0001f44d"),
        Unreact(message_id=message_id, emoji="\U0001f44d"),
        Edit(message_id=message_id, content=Content(markdown="**New** & better", platform_options={})),
        Delete(message_id=message_id),
        Type(message_id=message_id),
        MarkRead(message_id=message_id),
    ]


@dataclass(frozen=True)
class Sample:
    """A real payload of a platform, from its docs or a public test suite, and the envelopes that it becomes."""

    name: str
    source: str
    envelopes: list[Any]
    body: Any = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""

    @property
    def content(self) -> bytes:
        """The body as it comes over the wire."""
        return self.text.encode() if self.text is not None else msgspec.json.encode(self.body)


def _package(name: str) -> str:
    return name.replace("-", "_")


def folder_of(name: str) -> Path:
    """Where the tests' data of a platform are."""
    return FOLDER / _package(name)


def has_facts(name: str) -> bool:
    """Whether a platform has facts for tests."""
    return (folder_of(name) / "facts.py").is_file()


def http_facts(registry: PlatformRegistry) -> dict[str, Facts]:
    """The facts of each platform that an HTTP server can stand for."""
    found = {name: facts_of(name) for name in registry.names if has_facts(name)}
    calling = {name for name in registry.names if issubclass(registry.adapter_class(name), CallingAdapter)}
    return {name: facts for name, facts in found.items() if name in calling or facts.credentials is not _none}


def facts_of(name: str) -> Facts:
    """The facts of a platform."""
    module = importlib.import_module(f"platforms.{_package(name)}.facts")
    facts: Facts = module.FACTS
    return facts


def samples_of(name: str) -> list[Sample]:
    """The sample payloads of a platform, by name; a file has one or a list of them."""
    found: list[Sample] = []
    for file in sorted((folder_of(name) / "samples").glob("*.json")):
        read = msgspec.json.decode(file.read_bytes())
        each = enumerate(read) if isinstance(read, list) else [("", read)]
        found += [msgspec.convert({"name": f"{file.stem}{number}", **sample}, Sample) for number, sample in each]
    return found
