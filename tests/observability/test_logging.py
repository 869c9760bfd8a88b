"""The log pipeline: one shape for all loggers, ids on lines, no secrets, bounded lines."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from msgcore.config import Settings
from msgcore.observability.logging import MAX_LINE, configure_logging

SECRET = "planted-Pa55word-value"


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Callable[[], list[dict[str, Any]]]:
    configure_logging(Settings(log_format="json", log_level="info", jwt_secret=SECRET * 2), stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_structlog_and_stdlib_lines_have_one_shape(lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger("ours").info("message accepted", targets=3)
    logging.getLogger("theirs").warning("%s is slow", "dns", extra={"seconds": 2})
    ours, theirs = lines()
    assert {key: ours[key] for key in ("event", "level", "logger", "targets")} == {
        "event": "message accepted", "level": "info", "logger": "ours", "targets": 3,
    }  # fmt: skip
    assert {key: theirs[key] for key in ("event", "level", "logger", "seconds")} == {
        "event": "dns is slow", "level": "warning", "logger": "theirs", "seconds": 2,
    }  # fmt: skip
    assert ours["timestamp"].endswith("Z")


def test_ids_are_on_every_line_inside_the_block(lines: Callable[[], list[dict[str, Any]]]) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1", message_id="m1"):
        structlog.get_logger().info("inside")
        logging.getLogger("library").info("inside too")
    structlog.get_logger().info("outside")
    inside, too, outside = lines()
    assert (inside["request_id"], inside["message_id"]) == ("r1", "m1")
    assert too["request_id"] == "r1"
    assert "request_id" not in outside


def test_levels_below_the_setting_are_not_written(lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger().debug("quiet")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert lines() == []


@pytest.mark.parametrize("logger", ["msgcore.dispatch", "aiohttp.client", "uvicorn.error", "_granian", "py.warnings"])
def test_no_logger_leaks_secrets(lines: Callable[[], list[dict[str, Any]]], stream: io.StringIO, logger: str) -> None:
    def fail_with_local(password: str) -> None:
        raise ConnectionError(f"cannot reach smtp://bob:{password}@mail")

    log = logging.getLogger(logger)
    log.error("password=%s", SECRET)
    log.error("nested", extra={"request": {"headers": {"Authorization": SECRET}, "n": [{"token": SECRET}]}})
    try:
        fail_with_local(SECRET)
    except ConnectionError:
        log.exception("failed")
    assert SECRET not in stream.getvalue()
    assert len(lines()) == 3
    assert "ConnectionError" in lines()[2]["exception"]


def test_secret_settings_are_hidden_wherever_they_appear(
    lines: Callable[[], list[dict[str, Any]]], stream: io.StringIO
) -> None:
    structlog.get_logger().info(f"odd place {SECRET * 2}", where=[SECRET * 2])
    assert lines()[0]["where"] == ["***"]
    assert SECRET not in stream.getvalue()


def test_warnings_are_log_lines(lines: Callable[[], list[dict[str, Any]]]) -> None:
    warnings.warn("token=abcdef is old", DeprecationWarning, stacklevel=1)
    assert "token=***" in lines()[0]["event"]


def test_a_line_is_bounded(lines: Callable[[], list[dict[str, Any]]], stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(delivery_id="d1"):
        structlog.get_logger().info("big", **{f"field{n}": "\x01" * 5000 for n in range(50)})
    (line,) = lines()
    assert len(stream.getvalue()) <= MAX_LINE
    assert (line["event"], line["delivery_id"]) == ("big", "d1")
    assert "characters" in line["cut"]


def test_console_format_is_for_people_and_as_safe(stream: io.StringIO) -> None:
    configure_logging(Settings(log_format="console"), stream=stream)
    structlog.get_logger("ours").error("failed", password=SECRET, exc_info=ValueError(f"Bearer {SECRET}"))
    text = stream.getvalue()
    assert "failed" in text
    assert "ValueError" in text
    assert SECRET not in text
    assert "{" not in text.splitlines()[0]
