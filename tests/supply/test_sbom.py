"""The bill of materials is valid CycloneDX, has all that is locked, and is the same each time."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from supply.locks import LockError, read_lock
from supply.sbom import MARKER, main, sbom

ROOT = Path(__file__).parents[2]
LOCK, PROJECT = ROOT / "requirements.lock", ROOT / "pyproject.toml"
SCHEMAS = files("cyclonedx.schema") / "_res"  # as https://cyclonedx.org/schema publishes them


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    written = tmp_path_factory.mktemp("sbom") / "dist" / "sbom.json"
    main([str(written)])
    return json.loads(written.read_text())


def schema(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.SNAPSHOT.schema.json").read_text())


def test_it_is_valid(document: dict[str, Any]) -> None:
    names = ("spdx", "jsf-0.82")
    others = [(f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", schema(name)) for name in names]
    published = jsonschema_rs.Draft7Validator(schema("bom-1.6"), registry=jsonschema_rs.Registry(others))
    assert [f"{each.instance_path}: {each.message}" for each in published.iter_errors(document)] == []
    assert not published.is_valid(
        document | {"components": [{"type": "library", "name": "x", "licenses": [{"license": {"id": "none"}}]}]}
    )


def test_it_has_all_that_is_locked(document: dict[str, Any]) -> None:
    shown = {each["name"]: each for each in document["components"]}
    for locked in read_lock(LOCK):
        component = shown.pop(locked.name)
        [distribution] = component["externalReferences"]
        assert component["version"] == locked.version
        assert component["purl"] == f"pkg:pypi/{locked.name}@{locked.version}"
        assert sorted(each["content"] for each in distribution["hashes"]) == sorted(locked.hashes)
        assert locked.marker in [each["value"] for each in component.get("properties", [{"value": ""}])]
        assert "licenses" in component or locked.marker, "what every system installs has a licence"
    assert shown == {}


def test_everything_is_there_for_a_reason(document: dict[str, Any]) -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    reached, left = set[str](), ["msgcore"]
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left += needs[name]
    elsewhere = {each["bom-ref"] for each in document["components"] if MARKER in str(each.get("properties"))}
    assert {each["bom-ref"] for each in document["components"]} - elsewhere <= reached
    assert set(needs["msgcore"]) - elsewhere >= {"aiohttp", "litestar", "pyjwt"}
    assert "hiredis" in needs["redis"], "what an extra brings"
    assert "hiredis" not in needs["msgcore"]


def test_it_is_the_same_each_time(document: dict[str, Any]) -> None:
    assert sbom(LOCK, PROJECT) == document
    assert "serialNumber" not in document
    assert "timestamp" not in document["metadata"]


def test_another_version_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    for line, problem in (("yarl==0.0.1", "yarl .* is installed, not 0.0.1"), ("no-such-thing==1", "not installed")):
        lock.write_text(f"{line} --hash=sha256:{'0' * 64}\n")
        with pytest.raises(LockError, match=problem):
            sbom(lock, PROJECT)
