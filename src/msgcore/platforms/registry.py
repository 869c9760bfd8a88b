"""The registry of platforms: finds them, describes them, checks input for them, builds their adapters.

A platform is a package in `msgcore.platforms` with a module attribute `ADAPTER`. Adding a folder
adds a platform; nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

import msgcore.platforms
from msgcore.core.actions import Action, Edit
from msgcore.core.content import MOST_EMBEDDED, SendOptions
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.outbound.attachments import check_attachments
from msgcore.platforms.base import Capability, CredentialField, PlatformAdapter, PlatformDeclaration
from msgcore.platforms.fact_sheet import FactSheet, fact_sheet
from msgcore.platforms.live import Live
from msgcore.platforms.receiving import Inbound

if TYPE_CHECKING:
    from msgcore.core.content import Content, Target
    from msgcore.outbound.rendering import Rendering
    from msgcore.outbound.services import AdapterServices

NO_OPTIONS = SendOptions()

_LONGEST_NAME: Final = 64
_MOST_NAMES: Final = 100
_LIKENESS: Final = 0.8
"""From which on a name is a misspelt one; others belong to whoever wrote them, as in the compatible API."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MSGSPEC_PATH = re.compile(r" - at (?:`key` in )?`\$(?P<path>.*)`$")
_UNKNOWN_OPTION = re.compile(r"Object contains unknown field `(?P<name>.*)`")
_KINDS: dict[str, tuple[type, str]] = {
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
}


class AdapterSet(dict[str, PlatformAdapter]):
    """The adapters of a process, by platform name."""

    async def forget(self, platform: str, account_id: str) -> None:
        """Drop what an adapter keeps for an account (changed or deleted)."""
        adapter = self.get(platform)
        if adapter is not None:
            await adapter.forget(account_id)

    async def close(self) -> None:
        """Release every adapter's connections."""
        for adapter in self.values():
            await adapter.close()


class PlatformRegistry:
    """All platforms of this installation, by name."""

    def __init__(self) -> None:
        classes = (_load(module.name) for module in pkgutil.iter_modules(msgcore.platforms.__path__) if module.ispkg)
        self._classes = {cls.declaration.name: cls for cls in sorted(classes, key=lambda cls: cls.declaration.name)}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all platforms, sorted."""
        return tuple(self._classes)

    def adapter_class(self, name: str) -> type[PlatformAdapter]:
        """The adapter class of a platform. Raises InvalidInputError for an unknown name."""
        try:
            return self._classes[name]
        except KeyError:
            allowed = ", ".join(self._classes)
            raise InvalidInputError.of(
                [FieldError("/platform", f"platform {name!r} is not known; it must be one of: {allowed}")]
            ) from None

    def declaration(self, name: str) -> PlatformDeclaration:
        """The fact sheet of a platform. Raises InvalidInputError for an unknown name."""
        return self.adapter_class(name).declaration

    def declarations(self) -> list[PlatformDeclaration]:
        """The fact sheets of all platforms, sorted by name."""
        return [cls.declaration for cls in self._classes.values()]

    def fact_sheet(self, name: str) -> FactSheet:
        """All that is known of a platform. Raises InvalidInputError for an unknown name."""
        return fact_sheet(self.adapter_class(name))

    def fact_sheets(self) -> list[FactSheet]:
        """The same of all platforms, sorted by name."""
        return [fact_sheet(cls) for cls in self._classes.values()]

    def build(self, services: AdapterServices) -> AdapterSet:
        """One adapter for each platform."""
        return AdapterSet({name: cls(services) for name, cls in self._classes.items()})

    def inbound(self, name: str) -> Inbound | None:
        """How requests of a platform are received; None for one that makes none, or is not known."""
        found = self._classes.get(name)
        return None if found is None else found.inbound

    def build_live(self, services: AdapterServices) -> dict[str, Live]:
        """What holds connections, for each platform that has them."""
        return {name: cls.live(services) for name, cls in self._classes.items() if cls.live is not None}

    # --- users

    def user_key(self, platform: str, user_id: str) -> str:
        """An id of a user in the form by which two of them are compared; of an unknown platform as it is."""
        found = self._classes.get(platform)
        return user_id if found is None else found.declaration.user_key(found.address(user_id))

    def address(self, platform: str, id_: str) -> str:
        """An id of a chat or a person as the platform tells it; of an unknown platform as it is."""
        found = self._classes.get(platform)
        return id_ if found is None else found.address(id_)

    def ignoring_case(self) -> list[str]:
        """The platforms whose ids of users may differ in capitals and be the same."""
        return [name for name, cls in self._classes.items() if cls.declaration.ignores_case]

    def sending(self) -> list[str]:
        """The platforms that send messages."""
        return [
            name
            for name, cls in self._classes.items()
            if any(each.capability is Capability.SEND_MESSAGE for each in cls.declaration.capabilities)
        ]

    # --- credentials

    def check_credentials(self, platform: str, credentials: Mapping[str, Any]) -> list[FieldError]:
        """What is wrong with an account's credentials; empty where they may be stored.

        The adapter's own rules are asked only when each field is right by itself.
        """
        adapter = self.adapter_class(platform)
        fields = {field.name: field for field in adapter.declaration.credentials}
        errors = [_unknown_field(platform, name, fields) for name in credentials if name not in fields]
        for field in fields.values():
            problem = _field_problem(field, credentials.get(field.name))
            if problem is not None:
                errors.append(FieldError(f"/credentials/{field.name}", f"credentials.{field.name} {problem}"))
        return errors or adapter.check_credentials(credentials)

    def apply_defaults(self, platform: str, credentials: Mapping[str, Any]) -> dict[str, Any]:
        """The credentials without empty fields and with the declared defaults."""
        given = {name: value for name, value in credentials.items() if value is not None}
        defaults = {field.name: field.default for field in self.declaration(platform).credentials}
        return {name: value for name, value in defaults.items() if value is not None} | given

    # --- messages

    def check_message(
        self, platform: str, target: Target, content: Content, options: SendOptions = NO_OPTIONS
    ) -> list[FieldError]:
        """What is wrong with one message to one target.

        For many targets of one content, ask `check_content` once and `check_target` for each.
        """
        return self.check_target(platform, target) + self.check_content(platform, content, options)

    def check_target(self, platform: str, target: Target) -> list[FieldError]:
        """What is wrong with a recipient; pointers start with `/target/`."""
        return self.adapter_class(platform).check_target(target)

    def check_content(self, platform: str, content: Content, options: SendOptions = NO_OPTIONS) -> list[FieldError]:
        """What is wrong with a content on a platform; pointers start with `/content/` or `/options/`.

        What holds everywhere comes first, so of several platforms each says it again. The adapter's
        own rules are asked only when `platformOptions` have their declared shape, and embeds can be read in time.
        """
        adapter = self.adapter_class(platform)
        malformed = check_attachments(content.attachments) + self._misspelt_names(content)
        return malformed + (_first_errors(adapter, content) or adapter.check_content(content, options))

    def check_action(self, platform: str, action: Action) -> list[FieldError]:
        """What is wrong with an action on a platform that has the capability for it; as `check_content` does it."""
        adapter = self.adapter_class(platform)
        if not isinstance(action, Edit):
            return adapter.check_action(action)
        malformed = check_attachments(action.content.attachments) + self._misspelt_names(action.content)
        return malformed + (_first_errors(adapter, action.content) or adapter.check_action(action))

    def _misspelt_names(self, content: Content) -> list[FieldError]:
        """Members of `platformOptions` that nearly have a platform's name, and so would be ignored."""
        errors: list[FieldError] = []
        for name in islice(content.platform_options or (), _MOST_NAMES):
            if name in self._classes or len(name) > _LONGEST_NAME:
                continue
            near = get_close_matches(name.lower().replace("_", "-"), self._classes, n=1, cutoff=_LIKENESS)
            if near:
                pointer = "/content/platformOptions/" + name.replace("~", "~0").replace("/", "~1")
                text = f"content.platformOptions.{name} is not the name of a platform; did you mean {near[0]}?"
                errors.append(FieldError(pointer, text))
        return errors

    def render(self, platform: str, content: Content, options: SendOptions = NO_OPTIONS) -> Rendering:
        """What a content becomes on a platform."""
        return self.adapter_class(platform).render(content, options)


def _load(name: str) -> type[PlatformAdapter]:
    module = importlib.import_module(f"msgcore.platforms.{name}")
    adapter: type[PlatformAdapter] = module.ADAPTER
    return adapter


def _unknown_field(platform: str, name: str, fields: Mapping[str, CredentialField]) -> FieldError:
    # The name is the caller's text: shown shortened, and never as part of the pointer's syntax.
    shown = name if len(name) <= 64 else f"{name[:64]}..."  # noqa: PLR2004
    known = ", ".join(fields) or "none"
    pointer = "/credentials/" + shown.replace("~", "~0").replace("/", "~1")
    return FieldError(pointer, f"credentials.{shown} is not a field of {platform}; its fields are: {known}")


def _field_problem(field: CredentialField, value: Any) -> str | None:
    """What is wrong with a field's value, as the end of a sentence; never shows the value."""
    if value is None:
        return f"is required: {field.description}" if field.required and field.default is None else None
    kind, words = _KINDS[field.kind]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return f"must be {words}"
    if isinstance(value, str):
        return _text_problem(field, value)
    low, high = field.minimum, field.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        return f"must be between {low} and {high}"
    return None


def _text_problem(field: CredentialField, value: str) -> str | None:
    if (value or field.required) and not value.strip():
        return "must not be empty"
    if len(value) > field.max_length:
        return f"must have at most {field.max_length} characters"
    if _CONTROL.search(value):
        return "must not hold line breaks or control characters"
    if field.pattern is not None and re.fullmatch(field.pattern, value) is None:
        example = "" if field.example is None else f", such as {field.example}"
        return f"has the wrong form: {field.description}{example}"
    return None


def _first_errors(adapter: type[PlatformAdapter], content: Content) -> list[FieldError]:
    """What keeps an adapter from being asked."""
    errors = _option_errors(adapter, content)
    if content.embedded() > MOST_EMBEDDED:
        message = f"content.embeds must have at most {MOST_EMBEDDED} characters together: send a file, or more messages"
        errors.append(FieldError("/content/embeds", message))
    return errors


def _option_errors(adapter: type[PlatformAdapter], content: Content) -> list[FieldError]:
    """What has not the declared shape in a content's options for a platform."""
    declaration = adapter.declaration
    given = (content.platform_options or {}).get(declaration.name)
    if declaration.options is None or given is None:
        return []
    try:
        msgspec.convert(given, declaration.options)
    except msgspec.ValidationError as error:
        return [_option_error(adapter, declaration.options, error)]
    return []


def _option_error(
    adapter: type[PlatformAdapter], options: type[msgspec.Struct], error: msgspec.ValidationError
) -> FieldError:
    platform, text = adapter.declaration.name, str(error)
    match = _MSGSPEC_PATH.search(text)
    path = match["path"] if match else ""
    message = text[: match.start()] if match else text
    pointer, name = f"/content/platformOptions/{platform}", f"content.platformOptions.{platform}"
    unknown = _UNKNOWN_OPTION.fullmatch(message)
    if unknown is not None and not path:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(options))
        message = f"is not an option of {platform}; its options are: {known}"
        return FieldError(f"{pointer}/{unknown['name']}", f"{name}.{unknown['name']} {message}")
    pointer += path.replace("[...]", "").replace(".", "/").replace("[", "/").replace("]", "")
    return FieldError(pointer, f"{name}{path}: {message}{_meaning(adapter, path)}")


def _meaning(adapter: type[PlatformAdapter], path: str) -> str:
    """What the option at the beginning of a path means, in brackets; empty where it does not say so."""
    option = path.removeprefix(".").partition(".")[0].partition("[")[0]
    given = (fact_sheet(adapter).options_schema or {})["properties"].get(option, {})
    meaning = next((form["description"] for form in given.get("anyOf", [given]) if "description" in form), None)
    return "" if meaning is None else f" ({meaning})"
