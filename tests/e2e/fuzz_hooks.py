"""What Schemathesis loads: real ids and plausible requests, what its caller may, and a count of what was answered.

The run says in a file what is to be done (`fuzz_run`), and finds in another beside it what came of it.
"""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter, defaultdict
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

import schemathesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis.core.failures import Failure
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import EnsureResourceAvailability, UseAfterFree

from e2e.fuzz_plan import FOUND, NEW, PLAN_VARIABLE

UNKNOWN = "01920000-0000-7000-8000-0000000000ff"
EVERY = 100
"""How many requests lie between two looks at the memory of the gateway."""

_file = Path(os.environ[PLAN_VARIABLE])
_plan: dict[str, Any] = json.loads(_file.read_text())
_kept = frozenset(_plan["kept"])
_answers: defaultdict[str, Counter[int]] = defaultdict(Counter)
_slowest: list[tuple[float, str]] = [(0.0, "")]
"""The one that took longest."""
_memory: list[int] = []
_unanswered: list[str] = []


@schemathesis.hook
def before_add_examples(context: HookContext, examples: list[Any]) -> None:
    """A plausible request, with ids of things that are there."""
    operation: Any = context.operation
    request = dict(_plan["requests"][operation.label])
    body = request.pop("body")
    if body is not None:
        request |= {
            "body": _body(body, uuid5(NAMESPACE_URL, operation.label).hex[:12]),
            "media_type": "application/json",
        }
    examples.append(operation.Case(**request))


@schemathesis.hook
def before_generate_body(context: HookContext, strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Now and then the body of such a request in place of a made-up one."""
    body = _plan["requests"][cast("Any", context.operation).label]["body"]
    if body is None:
        return strategy
    return strategy | st.uuids().map(lambda name: _body(body, name.hex[:12]))


def _body(template: str, name: str) -> Any:
    return json.loads(template.replace(NEW, f"n{name}"))


@schemathesis.hook
def before_call(context: HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Keep what the other requests need: whoever would end it asks for something unknown instead. Wait for nothing."""
    del context, kwargs
    path = case.operation.path
    for name, value in case.path_parameters.items():
        last = f"{{{name}}}"
        ends = path.endswith((f"{last}/roll", f"{last}/cancel")) or (case.method == "DELETE" and path.endswith(last))
        if ends and value in _kept:
            case.path_parameters[name] = UNKNOWN
    if isinstance(case.query.get("wait"), int):
        case.query["wait"] = min(case.query["wait"], 0)


@schemathesis.hook
def after_call(context: HookContext, case: Any, response: Any) -> None:
    """Count it."""
    del context
    _answers[case.operation.label][response.status_code] += 1
    _slowest[0] = max(_slowest[0], (response.elapsed, case.operation.label))
    if sum(map(Counter.total, _answers.values())) % EVERY == 0:
        _memory.append(resident(_plan["pid"]))


@schemathesis.hook
def after_network_error(context: HookContext, case: Any, request: Any) -> None:
    """No answer at all: it took too long, or the connection was closed."""
    del context, request
    _unanswered.append(case.operation.label)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Any, response: Any) -> bool:
    """Let pass what is meant to be so.

    The usage of a key is shown after its end. A thing that was just made is not found where the body of a request
    names another one that is not, which only the links of paths are looked at for; nor is a project that a key made,
    since keys are of one project.
    """
    del context, response
    if isinstance(failure, UseAfterFree):
        return not str(case.operation.path).endswith("/keys/{key_id}/usage")
    if isinstance(failure, EnsureResourceAvailability):
        return not case.operation.body and not (_plan["is_key"] and failure.created_with == "POST /api/v1/projects")
    return True


@schemathesis.check
def access_as_the_table_says(ctx: Any, response: Any, case: Any) -> None:
    """Whoever may not is not answered with a success, and nobody is shown a thing of the other project."""
    del ctx
    if response.status_code >= HTTPStatus.MULTIPLE_CHOICES or case.method != case.operation.method.upper():
        return
    refused = case.operation.label in _plan["refused"] and (
        "{project}" not in case.operation.path or case.path_parameters["project"] == _plan["project"]
    )
    assert not refused, f"{_plan['caller']} may not do this"
    asked = str(response.request.url) + str(response.request.body)
    shown = [name for name in _plan["hidden"] if name in response.text and name not in asked]
    assert not shown, f"{_plan['caller']} is shown {shown} of another project"


def resident(pid: int) -> int:
    """The memory of a process that is in RAM, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


@atexit.register
def _write() -> None:
    found = {
        "answers": _answers,
        "slowest": _slowest[0],
        "memory": [*_memory, resident(_plan["pid"])],
        "unanswered": _unanswered,
    }
    (_file.parent / FOUND).write_text(json.dumps(found))
