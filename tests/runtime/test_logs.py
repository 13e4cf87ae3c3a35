"""Log lines: JSON with who, what and which session."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from xpod_runtime import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_member_and_bound_fields() -> None:
    stream = io.StringIO()
    logs.configure(pod="p", member="m", stream=stream)
    log = structlog.get_logger()
    with logs.bind(session="s", epoch=2):
        log.info("token", step=7)
    log.debug("hidden")
    log.warning("after")
    inside, after = lines(stream)
    timestamp = inside.pop("timestamp")
    assert isinstance(timestamp, str)
    assert timestamp.endswith("Z")
    assert inside == {
        "event": "token", "level": "info", "pod": "p", "member": "m", "session": "s", "epoch": 2, "step": 7
    }  # fmt: skip
    assert "session" not in after


def test_tracebacks_and_standard_logging_stay_one_line() -> None:
    stream = io.StringIO()
    logs.configure(pod="p", member="m", stream=stream)
    try:
        int("bad")
    except ValueError:
        structlog.get_logger().exception("failed")
    logging.getLogger("library").warning("from %s", "outside")
    failed, outside = lines(stream)
    assert "ValueError: invalid literal" in str(failed["exception"])
    assert (outside["event"], outside["logger"], outside["level"]) == ("from outside", "library", "warning")


def test_console_lines_are_for_people() -> None:
    stream = io.StringIO()
    logs.configure(console=True, stream=stream)
    structlog.get_logger().info("hello")
    assert "hello" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
