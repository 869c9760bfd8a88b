"""The `msgcore` command."""

from __future__ import annotations

import sys
import traceback

from msgcore.core.errors import ProblemError, StartupError


def main() -> None:
    """Run the command line; an expected failure is one line on standard error and status 1."""
    from msgcore.cli.commands import app

    try:
        app()
    except (StartupError, ProblemError) as error:
        sys.exit(f"msgcore: {error}")
    except Exception:  # noqa: BLE001 - the last stop before Python would print it unredacted
        from msgcore.observability.redaction import Redactor

        sys.exit(f"msgcore: unexpected error, please report it\n{Redactor().text(traceback.format_exc())}")
