"""What is said about a wrong body: every field that is wrong, and none that is right."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from msgcore.api.explain import wrong_fields
from msgcore.core.content import Wire

ID = "01920000-0000-7000-8000-0000000000ff"


class Sample(Wire):
    of: UUID | None = None
    ids: list[UUID] | None = None
    data: bytes = b""
    limit: int = 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"of": ID, "ids": [ID, ID.replace("-", "")], "limit": "x"}, {"/limit": "limit must be a whole number"}),
        ({"of": "x", "data": "YQ==", "limit": 1}, {"/of": "of must be a UUID"}),
        ({"data": "?"}, {"/data": "data must be a string in base64"}),
        ({"of": 5, "ids": [ID, {}]}, {"/of": "of must be a UUID", "/ids/1": "ids[1] must be a UUID"}),
        ({"": 1}, {"/": '"" is not a field of this request; known here: of, ids, data, limit'}),
        ({"/~": 1}, {"/~1~0": "/~ is not a field of this request; known here: of, ids, data, limit"}),
        ([], {"": "the body must be an object"}),
    ],
)
def test_each_wrong_field_is_told(body: Any, told: dict[str, str]) -> None:
    assert {error.pointer: error.message for error in wrong_fields(body, Sample)} == told
