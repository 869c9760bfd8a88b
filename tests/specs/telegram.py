"""Compares calls with the description of the Bot API (`telegram-bot-api.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

SPEC: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("telegram-bot-api.json").read_bytes())
SCALARS: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "Integer": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}


def check_method(method: str, given: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """A method with these arguments and uploaded files is as described. Raises AssertionError."""
    assert method in SPEC["methods"], method
    fields = SPEC["methods"][method]["fields"]
    # A file of a form may be an argument itself ("Sending files").
    problems = _problems(
        fields, {**given, **{name: "attach://" for name in files if _is_argument(fields, name)}}, method
    )
    attached = [text for text in _strings(given) if text.startswith("attach://")]
    assert not problems, problems
    assert {text.removeprefix("attach://") for text in attached} == {n for n in files if not _is_argument(fields, n)}


def _is_argument(fields: list[Any], name: str) -> bool:
    return any(field["name"] == name for field in fields)


def _problems(fields: list[Any], given: Mapping[str, Any], where: str) -> list[str]:
    known = {field["name"]: field for field in fields}
    problems = [f"{where}.{name} is not known" for name in given if name not in known]
    problems += [f"{where}.{n} is missing" for n, field in known.items() if field["required"] and n not in given]
    for name, value in given.items():
        if name in known and not any(_is(value, kind, f"{where}.{name}") for kind in known[name]["types"]):
            problems.append(f"{where}.{name} is none of {known[name]['types']}: {value!r}")
    return problems


def _is(value: Any, kind: str, where: str) -> bool:
    if kind.startswith("Array of "):
        return isinstance(value, list) and all(_is(each, kind.removeprefix("Array of "), where) for each in value)
    if kind in SCALARS:
        return isinstance(value, SCALARS[kind]) and (kind == "Boolean" or not isinstance(value, bool))
    described = SPEC["types"][kind]
    if described["subtypes"]:
        return any(_is(value, subtype, where) for subtype in described["subtypes"])
    if kind == "InputFile":
        return isinstance(value, str)
    return isinstance(value, dict) and not _problems(described["fields"], value, where)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _strings(each)]
