"""One pipeline for every log line: ours, structlog's and those of other libraries.

Lines go to standard error, as JSON or for people. Each passes redaction after tracebacks are made
text, so that no line, whoever wrote it, carries a secret.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from msgcore.config import Settings
from msgcore.observability.redaction import Redactor

MAX_LINE = 32 * 1024
"""Characters of one log line; a longer one keeps its first fields only."""

_OWN_HANDLERS = ("uvicorn", "uvicorn.access", "uvicorn.error", "_granian", "granian.access")
_CHATTY = ("uvicorn.access", "aiosqlite", "alembic", "asyncio", "mail.log", "sqlalchemy.engine", "markdown_it")
"""Loggers that would write a line for each request, statement or start below warning."""


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send all logging through the pipeline; `stream` is standard error unless given."""
    target = sys.stderr if stream is None else stream
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_enrich(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_finish(settings, target)],
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(capture=True)
    for name in _OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_enrich(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def redactor_for(settings: Settings) -> Redactor:
    """A redactor that also knows the secret values of these settings."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return Redactor(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def _enrich() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _finish(settings: Settings, stream: TextIO) -> list[Processor]:
    console = settings.log_format == "console" or (settings.log_format == "auto" and stream.isatty())
    render = _for_people(colors=stream.isatty()) if console else _as_json
    return [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # plain: no local variables
        _Redact(redactor_for(settings)),
        _Bounded(render),
    ]


def _for_people(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _as_json(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    return msgspec.json.encode(event).decode()


class _Redact:
    """The processor that takes secrets out of a finished event."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> MutableMapping[str, Any]:
        return self._redactor.value(event)


class _Bounded:
    """Renders, and renders again with little when the line came out too long."""

    _KEPT = ("timestamp", "level", "logger", "request_id", "message_id", "delivery_id")
    _KEPT_EVENT = 1024

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        brief = {key: str(event[key])[:128] for key in self._KEPT if key in event}
        brief["event"] = str(event.get("event", ""))[: self._KEPT_EVENT]
        line = str(self._render(logger, name, event))
        if len(line) <= MAX_LINE:
            return line
        return str(self._render(logger, name, {**brief, "cut": f"the line had {len(line)} characters"}))
