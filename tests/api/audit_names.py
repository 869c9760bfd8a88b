"""What things are called in the audit log, and in the API."""

from __future__ import annotations

import json

from api.conftest import Running

NOT_OF_REQUESTS = {"rolledFrom", "by", "deliveryId", "aliasId"}
"""What entries have beside the names of requests and answers."""


def names_of(log: str) -> set[str]:
    entries = [json.loads(line) for line in log.splitlines()]
    return {name for entry in entries for told in (entry["before"], entry["after"]) for name in told or ()}


def spoken(running: Running) -> set[str]:
    """All names of fields and parameters of the API."""
    document = running.nobody.ask("GET", "/docs/openapi.json").body
    ways = [way for path in document["paths"].values() for way in path.values()]
    parameters = {parameter["name"] for way in ways for parameter in way.get("parameters", ())}
    return parameters.union(*(schema.get("properties", ()) for schema in document["components"]["schemas"].values()))
