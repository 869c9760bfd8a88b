"""Every error of the API in one shape: the compatible one, with RFC 9457 fields beside it.

`{statusCode, message, error}` is what existing clients read (`message` is a list for validation
errors); `{type, title, detail, errors, requestId}` is for new ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, cast

import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException

from msgcore.api.answers import Answer
from msgcore.api.explain import TOO_DEEP, parameter_error
from msgcore.api.methods import allowed_methods
from msgcore.api.request_id import request_id
from msgcore.api.whole_bodies import allowed_seconds
from msgcore.core.errors import (
    FieldError,
    InvalidInputError,
    MethodError,
    NotFoundError,
    ProblemError,
    RangeNotSatisfiableError,
    TooLateError,
    UnavailableError,
)
from msgcore.store.faults import is_away, is_orphan, is_passing

log = structlog.stdlib.get_logger(__name__)

AWAY_SECONDS = 1.0
"""When to come back while the database is away, or after somebody else's transaction was in the way."""

_REFUSALS = frozenset((HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN))
_GONE = "client disconnected prematurely"
_MISSING = re.compile(r"Missing required (\w+) parameter '([^']+)'")
"""Litestar tells of these two in words only."""


class FieldProblem(Answer):
    """One wrong field: an RFC 6901 pointer into the request, and what is allowed there."""

    pointer: str
    message: str


class Problem(Answer):
    """The body of every error."""

    status_code: int
    message: str | list[str]
    error: str
    title: str
    detail: str
    errors: list[FieldProblem]
    request_id: str
    type: str = "about:blank"


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The answer to a request that raised; what is not ours to explain is logged and answered with 500."""
    status, problem = _answer_to(request, error)
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="msgcore", ApiKey realm="msgcore"'
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request, problem))
    if isinstance(problem, RangeNotSatisfiableError):
        headers["Content-Range"] = f"bytes */{problem.size}"
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "identity"  # RFC 7694, section 3
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    body = problem_body(problem, request_id(request.scope), status)
    return Response(body, status_code=status.value, headers=headers, media_type=MediaType.JSON)


def explain(error: Exception, identifier: str, **about: str) -> ProblemError:
    """An error as one that can be shown. What is not ours to explain is logged, with the request's id and `about`."""
    match error:
        case ProblemError():
            return error
        case RecursionError():
            return InvalidInputError(TOO_DEEP)
        case _ if is_away(error):
            log.warning("database_away", request_id=identifier, error=type(error).__name__)
            return UnavailableError("The database cannot be reached just now; try again", retry_after=AWAY_SECONDS)
        case _ if is_passing(error):
            log.warning(
                "transaction_given_up", request_id=identifier, **about, error=str(getattr(error, "orig", error))
            )
            told = "Another request was changing the same things just now, and nothing was done; try again"
            return UnavailableError(told, retry_after=AWAY_SECONDS)
        case _ if is_orphan(error):
            log.warning("parent_gone", request_id=identifier, **about)
            return NotFoundError("What this belongs to has just been deleted")
        case _:
            log.error("request_failed", request_id=identifier, **about, exc_info=error)
            return ProblemError("Something went wrong on our side; the server's log has the requestId")


def problem_body(problem: ProblemError, identifier: str, status: HTTPStatus | None = None) -> Problem:
    """An error in the shape of all errors; `status` only where it is not the error's own."""
    status = status or HTTPStatus(problem.status)
    # A refusal of the caller is a text to compatible clients, whatever it points to.
    wrong = [] if status in _REFUSALS else [field.message for field in problem.errors]
    return Problem(
        status_code=status.value,
        message=wrong or problem.message,
        error=status.phrase,
        title=status.phrase,
        detail=problem.message,
        errors=[FieldProblem(pointer=field.pointer, message=field.message) for field in problem.errors],
        request_id=identifier,
    )


def _answer_to(request: Request[Any, Any, Any], error: Exception) -> tuple[HTTPStatus, ProblemError]:
    """The status, and the error as one that can be shown."""
    match error:
        case InternalServerException(detail=detail) if detail == _GONE:
            # The caller's doing, and nobody reads the answer: nothing for the log, which anybody could fill so.
            problem = _cut_off(request)
        case ValidationException():
            problem = _invalid_parameters(request, error)
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return HTTPStatus(error.status_code), ProblemError(_explain_status(request, error))
        case _:
            # Not the path itself, which may hold a webhook's token.
            path = cast("dict[str, str]", request.scope).get("path_template", "")
            problem = explain(error, request_id(request.scope), method=request.method, path=path)
    return HTTPStatus(problem.status), problem


def _cut_off(request: Request[Any, Any, Any]) -> ProblemError:
    seconds = allowed_seconds(request.scope)
    if seconds is None:
        return InvalidInputError("The connection ended before the body did")
    return TooLateError(f"The body did not come within {seconds:g} seconds (MSGCORE_BODY_SECONDS)")


def _invalid_parameters(request: Request[Any, Any, Any], error: ValidationException) -> ProblemError:
    """Litestar's complaints about path and query parameters, and about a body that is missing."""
    if missing := _MISSING.match(error.detail):
        return InvalidInputError.of([FieldError(f"/{missing[1]}/{missing[2]}", f"{missing[2]} is required")])
    found = cast("list[dict[str, Any]]", error.extra if isinstance(error.extra, list) else [])
    # Beside a wrong parameter, Litestar complains of a body that is missing even where it may be.
    errors = [_parameter_error(request, complaint) for complaint in found if complaint.get("key") != "data"]
    if errors:
        return InvalidInputError.of(errors)
    return InvalidInputError("the request needs a JSON body" if found else error.detail)


def _parameter_error(request: Request[Any, Any, Any], complaint: dict[str, Any]) -> FieldError:
    """What is wrong with a parameter of the handler, or of what it depends on."""
    handler = request.route_handler
    depends_on = [each.parsed_fn_signature for each in handler.resolve_dependencies().values()]
    for signature in (handler.parsed_fn_signature, *depends_on):
        declared = signature.parameters.get(complaint.get("key", ""))
        if declared is not None:
            error = parameter_error(complaint, declared)
            given = request.query_params.get(error.pointer.removeprefix("/query/"))
            return parameter_error(complaint, declared, given)
    return parameter_error(complaint)


def _explain_status(request: Request[Any, Any, Any], error: HTTPException) -> str:
    asked = f"{request.method} {request.url.path}"
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            hint = "" if request.app.openapi_config is None else "; /docs lists them"
            return f"Cannot {asked}: there is no such endpoint{hint}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(allowed_methods(request.app, request.url.path)) or "only a WebSocket (ws:// or wss://)"
            return f"Cannot {asked}; allowed here: {allowed}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            limit = request.route_handler.resolve_request_max_body_size()
            remedy = ": send files by url, split a batch, or raise MSGCORE_MAX_BODY_BYTES"
            return (
                f"The body is larger than {limit} bytes{remedy if limit == request.app.request_max_body_size else ''}"
            )
        case _:
            return error.detail


def _allowed(request: Request[Any, Any, Any], error: Exception) -> Sequence[str]:
    return error.allowed if isinstance(error, MethodError) else allowed_methods(request.app, request.url.path)
