"""Variables that look like settings and are none: mostly typing errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from msgcore.config import BASE_URL_VARIABLE, known_variables

_ELSEWHERE = frozenset(
    {
        "MSGCORE_API_KEY",
        "MSGCORE_API_VERSION",
        "MSGCORE_DEFAULT_PROJECT",
        "MSGCORE_JWT_TOKEN",
        "MSGCORE_OUTPUT_FORMAT",
    }
)
"""Variables of the client tools, which often share a shell with the server."""


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One warning for each `MSGCORE_*` variable that is no setting, with the nearest name."""
    known = known_variables()
    warnings: list[str] = []
    for variable in sorted(environ):
        if not variable.startswith("MSGCORE_") or variable in known or variable in _ELSEWHERE:
            continue
        if BASE_URL_VARIABLE.fullmatch(variable):
            continue
        near = difflib.get_close_matches(variable, known, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else "`msgcore config` lists all settings"
        warnings.append(f"{variable} is not a setting and is ignored; {hint}")
    return warnings
