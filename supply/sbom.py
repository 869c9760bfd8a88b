"""`python -m supply.sbom FILE`: what is installed beside MsgCore, as CycloneDX JSON.

Names, versions and hashes are those of `requirements.lock`; licences and who needs whom are what the packages that are
installed here say of themselves. Nothing is asked of a network, and nothing in it changes from run to run: no time, no
serial number. Packages that only other systems install are listed without what nobody here can say of them.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from msgcore import __version__
from supply.locks import Locked, LockError, read_lock

ROOT = Path(__file__).parents[1]
MARKER = "msgcore:environment-marker"
"""The property that says on which systems a package is installed (https://peps.python.org/pep-0508/)."""

_SPELLED_OTHERWISE = {"Apache 2.0": "Apache-2.0", "ISC License": "ISC", "MIT License": "MIT"}
_CLASSIFIER = "License :: OSI Approved :: "


def main(arguments: Sequence[str]) -> None:
    """Write the file that is named, and its folder where there is none."""
    [name] = arguments
    path = Path(name)
    try:
        document = sbom(ROOT / "requirements.lock", ROOT / "pyproject.toml")
    except LockError as error:
        sys.exit(f"sbom: {error}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def sbom(lock: Path, project: Path) -> dict[str, Any]:
    """The document. Raises LockError where something else is installed than the lock says."""
    locked = read_lock(lock)
    installed = {each.name: found for each in locked if (found := _installed(each)) is not None}
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    bom = Bom(components=[_component(each, installed.get(each.name)) for each in locked])
    bom.metadata.component = _itself(table)
    bom.metadata.tools.components.add(this_component())
    bom.metadata.properties.add(Property(name="cdx:reproducible", value="true"))
    _add_dependencies(bom, bom.metadata.component, table["dependencies"], installed)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]  # both may be left out, and change with each run
    return document


def _itself(table: Mapping[str, Any]) -> Component:
    return Component(
        name=table["name"],
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref=table["name"],
        description=table["description"],
        licenses=[_license(table["license"])],
    )


def _installed(locked: Locked) -> Distribution | None:
    """What is installed of a package; None if this system installs nothing of it."""
    try:
        found = distribution(locked.name)
    except PackageNotFoundError:
        if locked.marker and not Marker(locked.marker).evaluate():
            return None
        raise LockError(f"{locked.name} is not installed; run: make sbom") from None
    if found.version != locked.version:
        raise LockError(f"{locked.name} {found.version} is installed, not {locked.version}; run: make sbom")
    return found


def _component(locked: Locked, installed: Distribution | None) -> Component:
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{locked.name}/{locked.version}/"),
        comment="any one of these files",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in locked.hashes],
    )
    return Component(
        name=locked.name,
        version=locked.version,
        type=ComponentType.LIBRARY,
        bom_ref=locked.name,
        purl=PackageURL("pypi", name=locked.name, version=locked.version),
        licenses=[] if installed is None else [_license(_said_license(installed))],
        external_references=[files],
        properties=[Property(name=MARKER, value=locked.marker)] if locked.marker else [],
    )


def _said_license(installed: Distribution) -> str:
    """The licence that a package states: as an expression, by name or text, or by classifier; the best of these."""
    metadata = installed.metadata
    stated = metadata.get("License-Expression") or (metadata.get("License") or "").partition("\n")[0].strip()
    if stated:
        return stated
    classifiers = metadata.get_all("Classifier") or []
    names = [each.removeprefix(_CLASSIFIER) for each in classifiers if each.startswith(_CLASSIFIER)]
    if not names:
        raise LockError(f"{installed.name} states no licence; look it up, and name it in supply/sbom.py")
    return names[0]


def _license(stated: str) -> License:
    known = _SPELLED_OTHERWISE.get(stated, stated)
    return LicenseFactory().make_from_string(known, license_acknowledgement=LicenseAcknowledgement.DECLARED)


def _add_dependencies(
    bom: Bom, itself: Component, direct: Iterable[str], installed: Mapping[str, Distribution]
) -> None:
    """Put in who needs whom on this system, with the extras that are asked for (`redis[hiredis]`)."""
    components = {each.name: each for each in bom.components}
    first = list(map(Requirement, direct))
    bom.register_dependency(itself, [components[name] for name in _names(first) if name in components])
    asked = _extras(first)
    seen: set[tuple[str, str]] = set()
    while asked:
        name, extra = asked.pop()
        if (name, extra) in seen or name not in installed:
            continue
        seen.add((name, extra))
        needed = _needed(installed[name], extra)
        bom.register_dependency(components[name], [components[each] for each in _names(needed) if each in components])
        asked |= _extras(needed)


def _needed(installed: Distribution, extra: str) -> list[Requirement]:
    stated = map(Requirement, installed.requires or ())
    return [each for each in stated if each.marker is None or each.marker.evaluate({"extra": extra})]


def _names(requirements: Iterable[Requirement]) -> list[str]:
    return [canonicalize_name(each.name) for each in requirements]


def _extras(requirements: Iterable[Requirement]) -> set[tuple[str, str]]:
    return {(canonicalize_name(each.name), extra) for each in requirements for extra in ("", *each.extras)}


if __name__ == "__main__":
    main(sys.argv[1:])
