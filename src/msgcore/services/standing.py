"""How a caller stands in a project, and what follows for the roles that they may give."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.errors import ForbiddenError, NotFoundError
from msgcore.core.scopes import Principal, Role
from msgcore.store.projects import find_role


def role_in_project(principal: Principal, row: Any) -> Role | None:
    """A user's role by a row of `find_role`; None if the project is not theirs. Administrators own all."""
    if row is None:
        return None
    if principal.is_admin or row.owner_id == principal.id:
        return Role.OWNER
    return None if row.role is None else Role.parse(row.role)


async def require_standing(connection: AsyncConnection, principal: Principal, project_id: str, role: Role) -> None:
    """Check that a caller may decide about somebody with this role: give it, change it, take it away.

    A user needs a role as high; a key all that the role may do, since otherwise whoever has the key could let
    themselves in for more than it may. Raises ForbiddenError that says what is missing.
    """
    if principal.kind == "api-key":
        _require_scopes(principal, role)
        return
    own = role_in_project(principal, await find_role(connection, project_id, principal.id))
    if own is None:
        raise NotFoundError(f"Project '{project_id}' not found")
    if own < role:
        raise ForbiddenError(f"Your role is {own.label}: only somebody who is {role.label} or more can decide this")


def _require_scopes(principal: Principal, role: Role) -> None:
    if role is Role.OWNER:
        raise ForbiddenError("API keys cannot decide about owners: an owner has to sign in for it")
    missing = sorted(role.scopes - principal.scopes)
    if missing:
        raise ForbiddenError(f"The role {role.label} may do what this API key may not: {', '.join(missing)}")
