"""Compares requests with the description of ntfy's API (`ntfy.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

SPEC: dict[str, Any] = msgspec.json.decode(Path(__file__).with_name("ntfy.json").read_bytes())
MESSAGE = 4096
"""Bytes from which a message is a file ("Limitations"; util.Peek: the limit itself is beyond it)."""
JSON = 2 * MESSAGE

_NAME = "[-_A-Za-z0-9]{1,64}"
_TOPIC, _ONE, _CLEAR = (re.compile(text) for text in (f"/{_NAME}", f"/{_NAME}/{_NAME}", f"/{_NAME}/{_NAME}/clear"))
_OF_HTTP = frozenset(("host", "user-agent", "accept", "accept-encoding", "content-length", "transfer-encoding"))


def check(method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """The name of an operation, which is as described. Raises AssertionError."""
    if (method, path) == ("POST", "/"):
        assert len(body) < JSON
        whole = msgspec.json.decode(body)
        assert len(whole["message"].encode()) < MESSAGE
        _check(SPEC["publish"], whole)
        return "publish"
    if method == "PUT" and _TOPIC.fullmatch(path):
        assert body
        _check_upload({name.lower(): value for name, value in headers.items()})
        return "upload"
    assert not body
    if method == "DELETE" and _ONE.fullmatch(path):
        return "delete"
    assert method == "PUT", (method, path)
    assert _CLEAR.fullmatch(path), path
    return "clear"


def _check_upload(headers: dict[str, str]) -> None:
    unknown = headers.keys() - _OF_HTTP - frozenset(SPEC["headers"])
    assert not unknown, unknown
    assert all(value.isascii() for value in headers.values())
    assert decoded(headers["x-filename"])
    for action in msgspec.json.decode(decoded(headers.get("x-actions", "[]"))):
        _check(SPEC["publish"]["$defs"]["action"], action)


def decoded(value: str) -> str:
    """A header with encoded words (RFC 2047)."""
    return str(make_header(decode_header(value)))


def _check(schema: dict[str, Any], body: Any) -> None:
    problems = [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(schema, body)]
    assert not problems, problems
