"""Compares requests with the description of the Client-Server API (`matrix-client-server.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import jsonschema_rs
import msgspec

from servers.http_sink import Request

SPEC: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("matrix-client-server.json").read_bytes())
MESSAGE = "m.room.message"
BESIDE = ("m.relates_to", "m.mentions", "m.new_content")
"""What any content may have, described with the relations and mentions and not with the types of events."""
REPLY = {
    "type": "object",
    "properties": {"event_id": {"type": "string"}},
    "required": ["event_id"],
    "additionalProperties": False,
}
"""https://spec.matrix.org/v1.18/client-server-api/#rich-replies, which the description has in words only."""


def check_request(request: Request) -> str:
    """A request is as described; the name of its operation. Raises AssertionError."""
    path, _, query = request.path.partition("?")
    for described in SPEC["operations"]:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]*)", re.escape(described["path"]))
        match = re.fullmatch(pattern, path)
        if match is not None and described["method"] == request.method:
            assert request.headers["Authorization"].startswith("Bearer ")
            given = {name: unquote(value) for name, value in match.groupdict().items()}
            _check_parameters(described, given, dict(parse_qsl(query, strict_parsing=bool(query))))
            _check_body(described, given, request)
            return str(described["operation"])
    raise AssertionError(f"{request.method} {path} is not described")


def _check_parameters(described: Mapping[str, Any], in_path: Mapping[str, str], in_query: Mapping[str, str]) -> None:
    known = {parameter["name"]: parameter for parameter in described["parameters"] if parameter["in"] == "query"}
    assert in_query.keys() <= known.keys(), in_query
    assert {name for name, parameter in known.items() if parameter["required"]} <= in_query.keys(), in_query
    for parameter in described["parameters"]:
        given = {"path": in_path, "query": in_query}.get(parameter["in"], {}).get(parameter["name"])
        if given is not None:
            is_number = parameter["schema"].get("type") == "integer"
            _check(int(given) if is_number else given, parameter["schema"])


def _check_body(described: Mapping[str, Any], in_path: Mapping[str, str], request: Request) -> None:
    kinds = described.get("body")
    if not kinds:
        assert not request.body
    elif "application/octet-stream" in kinds:
        assert request.body  # "The content type of the file being uploaded"
        assert "/" in request.headers["Content-Type"]
    else:
        assert request.headers["Content-Type"] == "application/json"
        body = msgspec.json.decode(request.body)
        _check(body, _closed(kinds["application/json"]))
        if described["operation"] == "sendMessage":
            assert len(request.body) < 65_536 - 4_000, "with what the server adds, no event is larger than 65,536 bytes"
            check_content(in_path["eventType"], body)
        elif described["operation"] == "setAccountData":
            _check(body, SPEC["contents"][in_path["type"]])


def check_content(kind: str, content: Mapping[str, Any], *, is_new: bool = False) -> None:
    """The content of an event is as described."""
    name = f"{kind}${content['msgtype']}" if kind == MESSAGE else kind
    described = SPEC["contents"][name]
    own = {key: value for key, value in content.items() if key not in BESIDE}
    if "m.new_content" in content:  # what stands beside it is for clients that do not know edits
        check_content(kind, content["m.new_content"], is_new=True)
        assert content["m.relates_to"]["rel_type"] == "m.replace"
    _check(own, _closed(described))
    if kind == MESSAGE:
        assert ("format" in content) == ("formatted_body" in content)
        assert content.get("format", "org.matrix.custom.html") == "org.matrix.custom.html"
        assert "m.mentions" in content
        _check(content["m.mentions"], _closed(SPEC["definitions"]["m.mentions"]))
    if content.get("msgtype") in ("m.image", "m.file", "m.audio", "m.video"):
        assert "url" in content, "Required if the file is unencrypted"
    assert not (is_new and "m.relates_to" in content), "is ignored there"
    relation = dict(content.get("m.relates_to", {}))
    answered = relation.pop("m.in_reply_to", None)
    if answered is not None:
        _check(answered, REPLY)
    if relation:
        _check(relation, SPEC["definitions"]["m.relates_to"])


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with no other fields than those that are described."""
    return {**schema, "additionalProperties": False} if schema.get("properties") else dict(schema)


def _check(value: Any, schema: Mapping[str, Any]) -> None:
    problems = [
        f"{error.instance_path}: {error.message}"
        for error in jsonschema_rs.validator_for(dict(schema)).iter_errors(value)
    ]
    assert not problems, problems
