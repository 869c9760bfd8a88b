"""OpenAPI links: which operations take what the answer of another one made.

Source: OpenAPI Specification 3.1, section 4.8.20 (Link Object).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PROJECT = "/api/v1/projects/{project}"
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class _Maker:
    """An operation that makes something; `field` of its answer is the `parameter` of the paths about that thing."""

    path: str
    parameter: str
    field: str = "id"


_MAKERS = (
    _Maker("/api/v1/projects", "project"),
    _Maker(f"{_PROJECT}/keys", "key_id"),
    _Maker(f"{_PROJECT}/keys/{{key_id}}/roll", "key_id"),
    _Maker(f"{_PROJECT}/members", "user_id", "userId"),
    _Maker(f"{_PROJECT}/members/invite", "invite_id"),
    _Maker(f"{_PROJECT}/platforms", "platform_id"),
    _Maker(f"{_PROJECT}/messages/send", "job_id", "jobId"),
    _Maker(f"{_PROJECT}/messages/batch", "batch_id", "batchId"),
    *(
        _Maker(f"{_PROJECT}/messages/{action}", "job_id", "jobId")
        for action in ("react", "unreact", "edit", "delete", "read", "typing")
    ),
    _Maker(f"{_PROJECT}/identities", "identity_id"),
    _Maker(f"{_PROJECT}/identities/quick-link", "identity_id"),
    _Maker(f"{_PROJECT}/identities/{{identity_id}}/aliases", "alias_id"),
    _Maker(f"{_PROJECT}/opt-outs", "opt_out_id"),
    _Maker(f"{_PROJECT}/webhooks", "webhook_id"),
    _Maker(f"{_PROJECT}/webhooks/{{webhook_id}}/test", "delivery_id"),
)
"""All are made by POST."""


def add_links(paths: dict[str, Any]) -> None:
    """Add them to the `paths` of a document. Raises KeyError for a maker that it does not have."""
    for maker in _MAKERS:
        operation = paths[maker.path]["post"]
        made = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        given = _PARAMETER.findall(maker.path)
        parameters = {name: f"$request.path.{name}" for name in given}
        parameters[maker.parameter] = f"$response.body#/{maker.field}"
        made["links"] = {
            taker["operationId"]: {
                "operationId": taker["operationId"],
                "parameters": parameters,
                "description": taker["summary"],
            }
            for path, taker in _operations(paths)
            if set(_PARAMETER.findall(path)) == parameters.keys() and _is_about(path, maker.parameter)
            if taker is not operation
        }


def _operations(paths: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in paths.items():
        for operation in operations.values():
            yield path, operation


def _is_about(path: str, parameter: str) -> bool:
    """Whether it is the path of the thing itself, or of something that is done to it or is in it."""
    return f"{{{parameter}}}" in path.split("/")[-2:]
