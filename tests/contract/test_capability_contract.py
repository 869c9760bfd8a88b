"""Every cell of the capability table: what a platform says it can do is done, and what it cannot is told or refused.

A cell that says yes has a request that holds the part and is as the platform's description has it, or a sample payload
that becomes such an envelope. A cell that says no is degraded, ignored or refused, and said to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from msgcore.core.content import SendOptions
from msgcore.outbound.layout import AS_GIVEN
from msgcore.platforms.base import CAPABILITY_OF, Capability
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.error_table import Ending
from msgcore.platforms.fact_sheet import FactSheet, Support
from msgcore.platforms.registry import PlatformRegistry
from servers.deliveries import make_content
from servers.edge import Edge, edge_of, holds
from servers.facts import FOLDER, Sample, facts_of, folder_of, has_facts, samples_of

REGISTRY = PlatformRegistry()
BASE = {"subject": "About", "text": "base"}
GUIDE = "docs/adding-a-platform.md"


@dataclass(frozen=True)
class Case:
    """A part of a content, the field that names it in a degradation, and a text by which it is found again."""

    field: str
    content: dict[str, Any] = field(default_factory=dict[str, Any])
    marker: str = ""


LINK = "https://x.example/Xq7link"
FILE = {"data": "WHE3ZmlsZQ==", "filename": "a.txt", "mimeType": "text/plain"}
CASES = {
    Capability.ATTACHMENTS: Case("content.attachments", {"attachments": [FILE]}, "Xq7file"),
    Capability.EMBEDS: Case("content.embeds", {"embeds": [{"title": "Xq7card", "description": "d"}]}, "Xq7card"),
    Capability.BUTTONS: Case("content.buttons", {"buttons": [{"text": "Xq7yes", "value": "Xq7yes"}]}, "Xq7yes"),
    Capability.LOCATION: Case("content.location", {"location": {"latitude": 52.5249, "longitude": 13.4049}}, "52.5249"),
    Capability.CONTACT: Case("content.contact", {"contact": {"name": "Xq7ann", "phone": "+4915112345678"}}, "Xq7ann"),
    Capability.POLL: Case("content.poll", {"poll": {"question": "Xq7tea?", "options": ["yes", "no"]}}, "Xq7tea"),
    Capability.SUBJECT: Case("content.subject", {"subject": "Xq7about"}, "Xq7about"),
    Capability.VOICE_SEND: Case(
        "content.attachments",
        {"attachments": [{"data": "WHE3dm9pY2U=", "filename": "a.ogg", "mimeType": "audio/ogg"}]},
        "Xq7voice",
    ),
}
OPTIONS = {
    Capability.REPLIES: "replyTo",
    Capability.THREADS: "threadId",
    Capability.SILENT: "silent",
}
TOLD = {
    "message": Capability.RECEIVE_MESSAGE,
    "edit": Capability.RECEIVE_EDIT,
    "delete": Capability.RECEIVE_DELETE,
    "reaction": Capability.RECEIVE_REACTION,
    "click": Capability.RECEIVE_CLICK,
    "command": Capability.RECEIVE_COMMAND,
    "membership": Capability.RECEIVE_MEMBERSHIP,
    "typing": Capability.RECEIVE_TYPING,
    "receipt:delivered": Capability.RECEIVE_DELIVERED,
    "receipt:read": Capability.RECEIVE_READ,
    "receipt:failed": Capability.RECEIVE_FAILED,
}
RECEIVING = {*TOLD.values(), Capability.RECEIVE_ATTACHMENTS, Capability.VOICE_RECEIVE}
UNTRIED = (Capability.VOICE_SEND,)
"""Without it, audio goes as the file that it is."""


def test_every_capability_has_a_case() -> None:
    actions = set(CAPABILITY_OF.values())  # `every_action` of the calling and the sending contract
    assert {*CASES, *OPTIONS, *RECEIVING, *actions, Capability.SEND_MESSAGE} == set(Capability)


@pytest.fixture(params=REGISTRY.names)
def name(request: pytest.FixtureRequest) -> str:
    """For each platform."""
    return request.param


@pytest.fixture
def sheet(name: str) -> FactSheet:
    return REGISTRY.fact_sheet(name)


def test_the_facts_are_there(name: str) -> None:
    assert has_facts(name), f"write {folder_of(name) / 'facts.py'}: FACTS says what tests know of {name} ({GUIDE})"
    adapter = REGISTRY.adapter_class(name)
    if not issubclass(adapter, CallingAdapter):
        return
    assert adapter.shows is not AS_GIVEN, f"{adapter.__name__}.shows says what {name} can show"
    assert facts_of(name).throttles, f"FACTS.throttles of {name}: the documented ways in which it asks to wait"
    endings = {rule.ending for rule in adapter.errors.rules}
    needed = {Ending.PERMANENT, Ending.AUTHENTICATION}
    assert needed <= endings, f"errors.py of {name} has no rules that end {sorted(needed - endings)}"


# --- what is sent


async def test_each_part_is_shown_or_said_to_be_shown_otherwise(name: str, sheet: FactSheet, sqlite_url: str) -> None:
    problems: list[str] = []
    async with edge_of(REGISTRY, name, sqlite_url) as edge:
        await edge.send(make_content(**BASE))
        for capability, case in CASES.items():
            ability = sheet.abilities.get(capability)
            if ability is None and capability in UNTRIED:
                continue
            part = _for_platform(case, edge)
            shown = ability is not None and ability.support is Support.FULL
            said = f"{name} says {'yes' if shown else 'no'} to {capability.value}"
            problems += [f"{said}, but {problem}" for problem in await _part_problems(edge, part, shown=shown)]
    assert not problems, "\n".join(problems)


def _for_platform(case: Case, edge: Edge) -> Case:
    """The case in a form that the platform takes: files by address, buttons with one, where it knows no other."""
    shows = edge.adapter.shows
    if "attachments" in case.content and (shows.files is None or shows.files.fetched):
        kind = case.content["attachments"][0]["mimeType"]
        return Case(case.field, {"attachments": [{"url": LINK, "filename": "a.txt", "mimeType": kind}]}, "Xq7link")
    if "buttons" in case.content and shows.buttons is not None and not shows.buttons.values:
        return Case(case.field, {"buttons": [{"text": "Xq7link", "url": LINK}]}, "Xq7link")
    return case


async def _part_problems(edge: Edge, case: Case, *, shown: bool) -> list[str]:
    adapter, content = type(edge.adapter), make_content(**BASE | case.content)
    rendering = adapter.render(content, SendOptions())
    about = [each for each in rendering.degradations if each.field == case.field]
    if shown and (rendering.errors or about):
        return [f"{case.field} is refused or shown otherwise: {[*rendering.errors, *about]}"]
    if not shown and not about and not rendering.errors:
        return [f"no degradation names {case.field}"]
    refused = adapter.check_content(content, SendOptions(degradation="refuse"))
    pointer = f"/{case.field.replace('.', '/')}"
    if not shown and not any(error.pointer.startswith(pointer) for error in refused):
        return [f"options.degradation does not refuse {case.field}"]
    if rendering.errors:
        return []
    arrived = await edge.send(content)
    return [] if holds(arrived, case.marker) else [f"{case.marker} of {case.field} did not arrive"]


async def test_each_option_has_its_effect_or_is_said_to_have_none(name: str, sheet: FactSheet, sqlite_url: str) -> None:
    problems: list[str] = []
    async with edge_of(REGISTRY, name, sqlite_url) as edge:
        values = {"replyTo": edge.facts.message_id, "threadId": edge.facts.thread, "silent": True}
        content = make_content(**BASE)
        before = await edge.send(content)
        for capability, option in OPTIONS.items():
            given = {option: values[option]}
            options = msgspec.convert(given, SendOptions)
            ignored = f"options.{option}" in {each.field for each in edge.adapter.render(content, options).degradations}
            refused = type(edge.adapter).check_content(content, options)
            can = capability in sheet.abilities
            if can and (ignored or refused or await edge.send(content, given) == before):
                problems.append(f"{name} says yes to {capability.value}, but {option} changes nothing: {refused}")
            if not can and not (ignored or refused):
                problems.append(f"{name} says no to {capability.value}, but nothing says that {option} is ignored")
    assert not problems, "\n".join(problems)


# --- what comes in


def told_by(sample: Sample) -> set[Capability]:
    """What a sample shows that the platform tells."""
    found: set[Capability] = set()
    for envelope in sample.envelopes:
        content = envelope["content"]
        found.add(TOLD[":".join(filter(None, (content["kind"], content.get("status"))))])
        kinds = {each.get("type", "document") for each in content.get("attachments", ())}
        found |= {Capability.RECEIVE_ATTACHMENTS} if kinds else set()
        found |= {Capability.VOICE_RECEIVE} if "voice" in kinds else set()
    return found


def test_what_comes_in_is_declared_and_has_a_sample(name: str, sheet: FactSheet) -> None:
    shown = set[Capability]().union(*map(told_by, samples_of(name)))
    declared = sheet.abilities.keys() & RECEIVING
    folder = (folder_of(name) / "samples").relative_to(FOLDER.parents[1])
    missing = [f"{each.value}: no payload of {folder} becomes such an envelope" for each in declared - shown]
    silent = [f"{each.value}: {folder} has it, so name it in `tells` of the declaration" for each in shown - declared]
    assert not missing + silent, f"{name}:\n" + "\n".join(sorted(missing + silent))


def test_receiving_has_a_way_and_a_way_has_words(name: str, sheet: FactSheet) -> None:
    adapter = REGISTRY.adapter_class(name)
    receives = Capability.RECEIVE_MESSAGE in sheet.abilities
    assert receives == (adapter.inbound is not None), f"{name}: receive-message and the adapter's inbound go together"
    assert receives == bool(sheet.ways), f"{name}: say supports_webhooks, supports_polling, ... or the way of its Live"
    assert "webhook" not in sheet.ways or sheet.signature, f"{name}: say in words how its requests are verified"
    others = set(sheet.ways) - {"webhook"}
    assert bool(others) == (adapter.live is not None), f"{name}: {others} needs a Live, and a Live needs a way"
