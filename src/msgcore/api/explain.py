"""Says in plain words what is wrong with a request: the field, and what is allowed there.

msgspec stops at the first wrong value and speaks of types. Once it has refused a body, `wrong_fields`
walks the body beside the type that was expected and lists every wrong field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from litestar.typing import FieldDefinition
from msgspec import inspect

from msgcore.core.errors import FieldError

MAX_ERRORS = 100
TOO_DEEP = "the body is nested too deeply"
_LONGEST_NAME = 64
_PARSED: Final[Mapping[type[inspect.Type], tuple[type, str]]] = {
    inspect.UUIDType: (UUID, "a UUID"),
    inspect.BytesType: (bytes, "a string in base64"),
}
"""What strings are read as, and how it is called."""
_UNDERSCORE = re.compile(r"_([a-z])")
_UNKNOWN_NAME = re.compile(r"^Invalid enum value '(.*)'", re.DOTALL)
_MSGSPEC_PATH = re.compile(r" - at `.*`$")


def wrong_fields(value: Any, expected: type) -> list[FieldError]:
    """What is wrong with a decoded body, field by field; at most `MAX_ERRORS`."""
    return list(islice(_check(value, inspect.type_info(expected), _Place()), MAX_ERRORS))


def nul_characters(value: Any) -> list[FieldError]:
    """Texts with U+0000, which PostgreSQL cannot store."""
    return list(islice(_find_nul(value, _Place()), MAX_ERRORS))


def parameter_error(
    complaint: dict[str, Any], declared: FieldDefinition | None = None, given: str | None = None
) -> FieldError:
    """One of Litestar's complaints about a path, query or header parameter.

    `declared` is what the handler says of it, `given` what the query has there.
    """
    name = str(complaint.get("key", "request"))
    source = complaint.get("source") or "query"
    where = getattr(source, "value", source)
    if where == "query":  # the handler's own name for it
        name = _UNDERSCORE.sub(lambda match: match[1].upper(), name)
    message = str(complaint.get("message", "is not allowed"))
    return FieldError(f"/{where}/{name}", f"{name} {_in_words(message, declared, given)}")


def not_this(given: str | None) -> str:
    """What a parameter is, behind the words that say what it must be."""
    if given is None:
        return ""
    return f", not '{given if len(given) <= _LONGEST_NAME else given[:_LONGEST_NAME] + '...'}'"


class _Place:
    """Where a value stands: as a JSON pointer, and as people write it."""

    def __init__(self, pointer: str = "", name: str = "") -> None:
        self.pointer = pointer
        self.name = name or "the body"
        self._prefix = f"{name}." if name else ""

    def field(self, key: str) -> _Place:
        shown = key if len(key) <= _LONGEST_NAME else f"{key[:_LONGEST_NAME]}..."
        name = f"{self._prefix}{shown}" or '""'
        return _Place(f"{self.pointer}/{shown.replace('~', '~0').replace('/', '~1')}", name)

    def item(self, index: int) -> _Place:
        return _Place(f"{self.pointer}/{index}", f"{self.name}[{index}]")

    def error(self, problem: str) -> FieldError:
        return FieldError(self.pointer, f"{self.name} {problem}")


def _check(value: Any, expected: inspect.Type, place: _Place) -> Iterator[FieldError]:
    match expected:
        case inspect.Metadata():
            yield from _check_described(value, expected, place)
        case inspect.StructType() if isinstance(value, dict):
            yield from _check_struct(cast("dict[str, Any]", value), expected, place)
        case inspect.ListType() if isinstance(value, list):
            yield from _check_list(cast("list[Any]", value), expected, place)
        case inspect.DictType() if isinstance(value, dict):
            for key, item in cast("dict[str, Any]", value).items():
                yield from _check(item, expected.value_type, place.field(key))
        case inspect.UnionType():
            yield from _check_union(value, expected, place)
        case _:
            if not _allows(expected, value):
                yield place.error(f"must be {_describe(expected)}")


def _check_described(value: Any, expected: inspect.Metadata, place: _Place) -> Iterator[FieldError]:
    """A type whose `description` says in words what is allowed says it better than its rules."""
    words = _own_words(expected)
    for error in _check(value, expected.type, place):
        yield place.error(f"must be {words}") if words and error.pointer == place.pointer else error


def _own_words(expected: inspect.Metadata) -> str | None:
    schema = cast("dict[str, Any]", expected.extra_json_schema or {})
    return schema.get("description")


def _check_struct(value: dict[str, Any], expected: inspect.StructType, place: _Place) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in expected.fields}
    for name, field in fields.items():
        if name in value:
            yield from _check(value[name], field.type, place.field(name))
        elif field.required:
            yield place.field(name).error(f"is required: it must be {_describe(field.type)}")
    if expected.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            near = get_close_matches(name[:_LONGEST_NAME], fields, n=1)  # what it does grows with the name
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields) or 'none'}"
            yield place.field(name).error(f"is not a field of this request; {hint}")


def _check_list(value: list[Any], expected: inspect.ListType, place: _Place) -> Iterator[FieldError]:
    low, high = expected.min_length or 0, expected.max_length
    if len(value) < low or (high is not None and len(value) > high):
        yield place.error(f"must be {_describe(expected)}, not {len(value)}")
        return
    for index, item in enumerate(value):
        yield from _check(item, expected.item_type, place.item(index))


def _check_union(value: Any, expected: inspect.UnionType, place: _Place) -> Iterator[FieldError]:
    problems: list[list[FieldError]] = []
    for option in expected.types:
        found = list(islice(_check(value, option, place), MAX_ERRORS))
        if not found:
            return
        problems.append(found)
    # The option that got furthest is the one that was meant: its complaints are about what is inside.
    inside = [found for found in problems if found[0].pointer != place.pointer]
    others = [option for option in expected.types if not isinstance(option, inspect.NoneType)]
    if inside:
        yield from inside[0]
    elif len(others) == 1 and value is not None:
        yield from _check(value, others[0], place)
    else:
        yield place.error(f"must be {_describe(expected)}")


def _allows(expected: inspect.Type, value: Any) -> bool:  # noqa: PLR0911 - one return a type
    """Whether a single value (no struct, list, object or union) is right."""
    match expected:
        case inspect.AnyType() | inspect.RawType():
            return True
        case inspect.StrType():
            return isinstance(value, str) and _text_allowed(expected, value)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool) and _number_allowed(expected, value)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool) and _number_allowed(expected, value)
        case inspect.EnumType():
            return value in [member.value for member in expected.cls]  # a list: the value may not be hashable
        case inspect.LiteralType():
            return value in expected.values
        case inspect.NoneType():
            return value is None
        case _:
            return isinstance(value, str) and type(expected) in _PARSED and _parses(value, _PARSED[type(expected)][0])


def _parses(text: str, kind: type) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


def _text_allowed(expected: inspect.StrType, value: str) -> bool:
    low, high = expected.min_length or 0, expected.max_length
    if len(value) < low or (high is not None and len(value) > high):
        return False
    return expected.pattern is None or re.search(expected.pattern, value) is not None


def _number_allowed(expected: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (expected.ge is None or value >= expected.ge) and (expected.le is None or value <= expected.le)


def _describe(expected: inspect.Type) -> str:  # noqa: PLR0911 - one return a type
    """What is allowed, as a noun phrase."""
    match expected:
        case inspect.Metadata():
            return _own_words(expected) or _describe(expected.type)
        case inspect.StrType():
            shape = f" matching {expected.pattern}" if expected.pattern else ""
            return f"a string{_range(expected.min_length, expected.max_length, 'characters')}{shape}"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(expected, inspect.IntType) else "a number"
            return f"{noun}{_range(expected.ge, expected.le, '')}"
        case inspect.BoolType():
            return "true or false"
        case inspect.EnumType():
            return _one_of([member.value for member in expected.cls])
        case inspect.LiteralType():
            return _one_of(list(expected.values))
        case inspect.ListType():
            return f"a list{_range(expected.min_length, expected.max_length, 'items')}"
        case inspect.UnionType():
            return " or ".join(_describe(option) for option in expected.types)
        case inspect.NoneType():
            return "null"
        case _:
            return _PARSED[type(expected)][1] if type(expected) in _PARSED else "an object"


def _range(low: float | None, high: float | None, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    match low, high:
        case None, None:
            return ""
        case None, _:
            return f" of at most {high}{unit}"
        case _, None:
            return f" of at least {low}{unit}"
        case _:
            return f" of {low} to {high}{unit}" if unit else f" from {low} to {high}"


def _one_of(values: list[Any]) -> str:
    return f"one of {', '.join(map(str, values))}"


def _find_nul(value: Any, place: _Place) -> Iterator[FieldError]:
    match value:
        case str() if "\0" in value:
            yield place.error("must not hold the character U+0000")
        case dict():
            for key, item in cast("dict[str, Any]", value).items():
                if "\0" in key:
                    yield place.error("must not have a name with the character U+0000")
                yield from _find_nul(item, place.field(key))
        case list():
            for index, item in enumerate(cast("list[Any]", value)):
                yield from _find_nul(item, place.item(index))
        case _:
            return


_MSGSPEC_WORDS = (
    (re.compile(r"^Expected `int` >= (\S+)"), r"must be a whole number of at least \1"),
    (re.compile(r"^Expected `int` <= (\S+)"), r"must be a whole number of at most \1"),
    (re.compile(r"^Expected `int`"), "must be a whole number"),
    (re.compile(r"^Expected `str` of length >= (\S+)"), r"must have at least \1 characters"),
    (re.compile(r"^Expected `str` of length <= (\S+)"), r"must have at most \1 characters"),
    (re.compile(r"^Expected `str` matching regex (.+)"), r"must match \1"),
    (re.compile(r"^Expected `bool`"), "must be true or false"),
    (re.compile(r"^Expected `datetime`|^Invalid RFC3339"), "must be a date and time such as 2030-01-31T12:00:00Z"),
    (re.compile(r"^Object missing required field|^Missing required"), "is required"),
)


def _in_words(message: str, declared: FieldDefinition | None, given: str | None) -> str:
    """Msgspec's sentence about a single parameter, without its types."""
    message = _MSGSPEC_PATH.sub("", message)
    for pattern, words in _MSGSPEC_WORDS:
        match = pattern.search(message)
        if match is not None:
            return match.expand(words) + (not_this(given) if words.startswith("must be") else "")
    if declared is None:
        return f"is not allowed here ({message[:1].lower()}{message[1:]})"
    unknown = _UNKNOWN_NAME.search(message)  # it tells which of several
    described = cast("str | None", getattr(declared.kwarg_definition, "description", None))
    meaning = f" ({described})" if described else ""
    allowed = _describe(_single(inspect.type_info(declared.annotation)))
    return f"must be {allowed}{not_this(unknown[1] if unknown else given)}{meaning}"


def _single(expected: inspect.Type) -> inspect.Type:
    """What one value of a parameter is that may be missing, or there several times."""
    match expected:
        case inspect.UnionType():
            return _single(next(each for each in expected.types if not isinstance(each, inspect.NoneType)))
        case inspect.ListType():
            return _single(expected.item_type)
        case _:
            return expected


def undecodable(error: Exception) -> str:
    """Why a body is no JSON, in words."""
    match error:
        case UnicodeDecodeError():
            return "the body is not valid UTF-8"
        case RecursionError():
            return TOO_DEEP
        case msgspec.DecodeError():
            return f"the body is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}"
        case _:
            return "the body is not valid JSON"
