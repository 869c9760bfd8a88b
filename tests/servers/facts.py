"""What tests have to know of a platform with an HTTP API, beside its declaration: `tests/platforms/<name>/facts.py`."""

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
from servers.http_sink import Request

FOLDER = Path(__file__).parents[1] / "platforms"


def _none(_url: str) -> dict[str, Any]:
    return {}


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
    `message_id` has the form of the platform's. `sign` makes the headers of a webhook request of the platform with this body.
    """

    target: str
    answers: Callable[[Request], tuple[int, Any]]
    check: Callable[[Request], str]
    throttles: Sequence[Throttle]
    target_type: str = "user"
    message_id: str = "17"
    credentials: Callable[[str], dict[str, Any]] = _none
    sign: Callable[[Account, bytes], dict[str, str]] | None = None

    @property
    def other_target(self) -> str:
        """Somebody else: with another digit at the end, ids keep their form."""
        found = re.fullmatch(r"(.*)([0-9])([^0-9]*)", self.target)
        return f"{self.target}2" if found is None else f"{found[1]}{(int(found[2]) + 1) % 10}{found[3]}"


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


def has_facts(name: str) -> bool:
    """Whether a platform has facts for tests."""
    return (FOLDER / _package(name) / "facts.py").is_file()


def facts_of(name: str) -> Facts:
    """The facts of a platform."""
    module = importlib.import_module(f"platforms.{_package(name)}.facts")
    facts: Facts = module.FACTS
    return facts


def samples_of(name: str) -> list[Sample]:
    """The sample payloads of a platform, by name."""
    files = sorted((FOLDER / _package(name) / "samples").glob("*.json"))
    return [msgspec.convert({"name": file.stem, **msgspec.json.decode(file.read_bytes())}, Sample) for file in files]
