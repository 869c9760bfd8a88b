"""What a message becomes on a platform: the calls that are made of it, and what is not shown as it was given."""

from __future__ import annotations

from typing import Any

import msgspec

from msgcore.core.content import Attachment
from msgcore.core.errors import FieldError


class Degradation(msgspec.Struct, frozen=True, rename="camel"):
    """Something that a platform cannot show as it was given. `rule` is a short stable word for how it is shown."""

    field: str
    rule: str
    message: str


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a platform: the name of its method, what is sent, and the files that go with it.

    Holds no credentials: it is what `messages/preview` shows.
    """

    method: str
    body: dict[str, Any]
    files: tuple[Attachment, ...] = ()


class Rendering(msgspec.Struct, frozen=True):
    """A message as a platform's calls, in order.

    `errors` are what keeps it from being sent; pointers start with `/content/` or `/options/`.
    """

    calls: tuple[Call, ...]
    degradations: tuple[Degradation, ...] = ()
    errors: tuple[FieldError, ...] = ()
