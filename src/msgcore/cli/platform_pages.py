"""What the documentation says of platforms from their declarations, and where that stands in a source checkout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

import msgcore
from msgcore.core.errors import StartupError
from msgcore.core.limits import Budget, RateLimits
from msgcore.outbound.layout import AS_GIVEN
from msgcore.platforms.base import Capability, CredentialField
from msgcore.platforms.error_table import Ending
from msgcore.platforms.fact_sheet import FactSheet, Support

BEGIN = "<!-- made by `make docs` from the platforms' declarations: change those, not this -->"
END = "<!-- end of what `make docs` made -->"
NO = "-"
SENDING = (
    *(Capability.ATTACHMENTS, Capability.EMBEDS, Capability.BUTTONS, Capability.LOCATION, Capability.CONTACT),
    *(Capability.POLL, Capability.SUBJECT, Capability.VOICE_SEND, Capability.REPLIES, Capability.THREADS),
    Capability.SILENT,
)
BECOMES = {
    Ending.PERMANENT: "fails",
    Ending.TEMPORARY: "is tried again",
    Ending.THROTTLED: "waits as long as it is asked to",
    Ending.AUTHENTICATION: "waits: the account is paused until its credentials are changed",
}
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
}


def checkout() -> Path:
    """The root of the source checkout that this is run from. Raises StartupError where it is an installed package."""
    root = Path(msgcore.__file__).resolve().parents[2]
    if not all((root / part).exists() for part in ("pyproject.toml", "tests/contract", "docs/platforms")):
        raise StartupError(
            "this needs the source checkout, and MsgCore runs as an installed package here: "
            "clone the repository, and run .venv/bin/msgcore there (make makes it)"
        )
    return root


def write_pages(root: Path, sheets: Sequence[FactSheet]) -> list[Path]:
    """Bring the documentation of a checkout up to date; the files that changed."""
    return [path for path, text in pages(root, sheets).items() if _write(path, text)]


def pages(root: Path, sheets: Sequence[FactSheet]) -> dict[Path, str]:
    """The files of a checkout that have a part from the declarations, as they should be."""
    folder = root / "docs" / "platforms"
    parts: dict[Path, Callable[[], str]] = {
        root / "README.md": lambda: capability_table(sheets, "docs/platforms/"),
        folder / "README.md": lambda: platform_table(sheets),
    }
    for sheet in sheets:
        parts[folder / f"{sheet.declaration.name}.md"] = lambda sheet=sheet: facts(sheet)
    return {path: _with_part(path, part()) for path, part in parts.items()}


def _with_part(path: Path, part: str) -> str:
    """A page with this between its marks, at its end where it has none. Raises StartupError where there is no page."""
    if not path.is_file():
        raise StartupError(
            f"there is no page {path}: write what a user has to know of the platform, then run make docs"
        )
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        before, after = text.rstrip("\n") + "\n\n", "\n"
    return f"{before}{BEGIN}\n\n{part.strip()}\n\n{END}{after}"


def _write(path: Path, text: str) -> bool:
    if path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


# --- all platforms


def capability_table(sheets: Sequence[FactSheet], link: str = "") -> str:
    """What each platform can do, and up to where; `link` is the way to the platforms' pages."""
    names = [f"[{sheet.declaration.name}]({link}{sheet.declaration.name}.md)" for sheet in sheets]
    receiving = [each for each in Capability if each.value.startswith("receive-") or each is Capability.VOICE_RECEIVE]
    acting = [each for each in Capability if each not in (*SENDING, *receiving, Capability.SEND_MESSAGE)]
    rows = [
        ["text", *(_length(sheet.shows.text) for sheet in sheets)],
        ["formatting", *(sheet.shows.dialect.name for sheet in sheets)],
        *([f"`{each.value}`", *(_cell(sheet, each) for sheet in sheets)] for each in (*SENDING, *acting, *receiving)),
        ["receives by", *(", ".join(sheet.ways) or NO for sheet in sheets)],
    ]
    return _table(["", *names], rows)


def platform_table(sheets: Sequence[FactSheet]) -> str:
    """All platforms in a line each: how they send, how they receive, what they need."""
    rows: list[list[str]] = []
    for sheet in sheets:
        declared = sheet.declaration
        words = [sheet.abilities.get(each) for each in (Capability.SEND_MESSAGE, Capability.RECEIVE_MESSAGE)]
        needed = [f"`{field.name}`" for field in declared.credentials if field.required]
        rows.append(
            [
                f"[{declared.name}]({declared.name}.md)",
                declared.display_name,
                *(NO if each is None else each.limitations or "yes" for each in words),
                ", ".join(needed) or "nothing",
            ]
        )
    return _table(["platform", "", "sends", "receives", "needs"], rows)


def _cell(sheet: FactSheet, capability: Capability) -> str:
    ability = sheet.abilities.get(capability)
    if ability is None:
        return NO
    return ability.figure if ability.support is Support.FULL else f"as {ability.figure}"


def _length(characters: int) -> str:
    return "any length" if characters >= AS_GIVEN.text else f"{characters:,}"


# --- one platform


def facts(sheet: FactSheet) -> str:
    """The part of a platform's page that its declaration tells."""
    return "\n\n".join(
        (
            "## Reference",
            "### Credentials",
            _table(
                ["credential", "needed", "meaning"], map(_credential, sheet.declaration.credentials), "There are none."
            ),
            "### Capabilities",
            _table(["capability", "", "how far"], _abilities(sheet)),
            "### Options",
            _options(sheet),
            "### Limits",
            "\n".join(f"- {line}" for line in _limits(sheet)),
            "### Errors",
            _table(["code", "the delivery", "what it means, and what to do", "the platform's answers"], _errors(sheet)),
        )
    )


def _credential(field: CredentialField) -> list[str]:
    meaning = field.description
    if field.default is not None:
        meaning += f"; default: `{_plain(field.default)}`"
    if field.example is not None:
        meaning += f". Such as `{_plain(field.example)}`"
    needed = "yes" if field.required and field.default is None else "no"
    return [f"`{field.name}`", needed + (", secret" if field.secret else ""), meaning]


def _plain(value: Any) -> str:
    """As it is written in JSON, texts without their quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _abilities(sheet: FactSheet) -> Iterator[list[str]]:
    for ability in sheet.abilities.values():
        word = "yes" if ability.support is Support.FULL else f"as {ability.figure}"
        yield [f"`{ability.capability.value}`", word, ability.limitations or ""]


def _options(sheet: FactSheet) -> str:
    schema = sheet.options_schema
    if schema is None:
        return "Whatever stands there is passed on."
    if not schema["properties"]:
        return "There are none."
    intro = f"In `content.platformOptions.{sheet.declaration.name}`:"
    rows = [_option(name, given, schema) for name, given in schema["properties"].items()]
    return f"{intro}\n\n{_table(['option', 'type', 'meaning'], rows)}"


def _option(name: str, given: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    forms = cast("list[dict[str, Any]]", given.get("anyOf", [given]))
    form = next(each for each in forms if each.get("type") != "null")
    if "$ref" in form:
        form = schema["$defs"][form["$ref"].rpartition("/")[2]]
    words = [each for each in (form.get("description"), *_bounds(form)) if each]
    if given.get("default"):
        words.append(f"default: `{msgspec.json.encode(given['default']).decode()}`")
    return [f"`{name}`", str(form.get("type", "any")), "; ".join(words)]


def _bounds(form: dict[str, Any]) -> Iterator[str]:
    for name, words in _BOUNDS.items():
        if name in form:
            yield words.format(f"{form[name]:,}")


def _limits(sheet: FactSheet) -> Iterator[str]:
    yield f"text of one message: {_length(sheet.shows.text)}{' characters' if sheet.shows.text < AS_GIVEN.text else ''}"
    yield f"formatting: {sheet.shows.dialect.name}"
    yield from _rates(sheet.declaration.limits)
    yield f"order: messages to one recipient {'keep it' if sheet.declaration.ordered else 'may overtake each other'}"
    yield f"receives by: {', '.join(sheet.ways) or 'nothing'}"
    if sheet.signature is not None:
        yield f"requests of the platform are verified by: {sheet.signature}"


def _rates(limits: RateLimits) -> Iterator[str]:
    kinds = ((kind.name, tuple(each for each in kind.limits.lane if each not in limits.lane)) for kind in limits.kinds)
    scopes = (("account", limits.account), ("recipient", limits.lane), *kinds, ("kind of call", limits.route))
    told = [f"{_budget(budget)} for each {scope}" for scope, budgets in scopes for budget in budgets]
    told += [f"{limits.in_flight} at a time for each account"] if limits.in_flight else []
    yield f"calls: {'; '.join(told) or 'as many as it takes'}"


def _budget(budget: Budget) -> str:
    return f"{budget.count:,} in {budget.period:g} s" if budget.period != 1 else f"{budget.count:,} a second"


def _errors(sheet: FactSheet) -> Iterator[list[str]]:
    for fact in sheet.errors:
        yield [f"`{fact.code}`", BECOMES[fact.ending], fact.remedy, ", ".join(fact.answers)]


def _table(
    header: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]] | map[list[str]], none: str = ""
) -> str:
    lines = [_row(row) for row in rows]
    return "\n".join((_row(header), "|" + "---|" * len(header), *lines)) if lines else none


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
