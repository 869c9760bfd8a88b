"""Nothing that holds a secret says it when it is printed, as tracebacks with local variables would."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import msgspec

import msgcore
from msgcore.core.private import private_repr
from msgcore.observability.redaction import is_secret_name

HARMLESS = re.compile(r"_(encrypted|hash|prefix|suffix|schema|until)$")
MASKED = {"PlatformView", "PlatformDetails", "FactSheet", "PlatformDeclaration", "SupportedPlatform"}
"""Their credentials are masked, or the declarations of them."""
TEXTS = re.compile(r"str|bytes|dict|Mapping|Secret|Password|HexKey")


def all_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(msgcore.__path__, "msgcore."):
        if not module.name.endswith(("__main__", ".asgi")) and ".migrations" not in module.name:
            loaded = importlib.import_module(module.name)
            yield from (each for _, each in inspect.getmembers(loaded, inspect.isclass) if is_ours(each, module.name))


def is_ours(each: type, module: str) -> bool:
    return each.__module__ == module and (dataclasses.is_dataclass(each) or issubclass(each, msgspec.Struct))


def printed(each: type) -> Iterator[str]:
    """The fields that its repr shows and that hold a secret by their names and types."""
    if dataclasses.is_dataclass(each):
        shown = {field.name for field in dataclasses.fields(each) if field.repr}
    else:
        shown = set() if each.__repr__ is private_repr else set(each.__struct_fields__)  # type: ignore[attr-defined]
    for name, kind in each.__annotations__.items():
        if name in shown and is_secret_name(name, "") and TEXTS.search(str(kind)) and not HARMLESS.search(name):
            yield name


def test_no_repr_shows_a_secret() -> None:
    classes = [each for each in all_classes() if each.__name__ not in MASKED]
    assert len(classes) > 100
    telling = {f"{each.__module__}.{each.__name__}.{name}" for each in classes for name in printed(each)}
    assert telling == set(), "give the field repr=False, or the struct __repr__ = private_repr"
