"""Query parameters that several lists share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.params import QueryParameter

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=1000, description="Entries of a page")]
Offset: TypeAlias = Annotated[int, QueryParameter(ge=0, le=1_000_000, description="Entries to skip")]
