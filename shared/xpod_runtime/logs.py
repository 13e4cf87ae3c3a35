"""Logging: one JSON line an event, on stderr.

Knows: structlog, the fields that every line carries. Does not know: who logs, or what is worth logging.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(
    *,
    level: str = "info",
    pod: str = "",
    member: str = "",
    console: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Sets up logging for this process; `console` renders for people instead of machines."""

    def identify(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.update(pod=pod, member=member)
        return event

    output = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            identify,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *_renderers(console),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(LEVELS[level])


def bind(**fields: Any) -> AbstractContextManager[Any]:
    """Adds fields such as session, step and epoch to every line logged inside, also in tasks started there."""
    return structlog.contextvars.bound_contextvars(**fields)


def _renderers(console: bool) -> list[Processor]:
    if console:
        return [_visible, structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _visible(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What clients sent cannot begin a line or move a terminal's cursor."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _Bridge(logging.Handler):
    """Libraries that use the standard logging speak through structlog too."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _adopt_standard_logging(level: int) -> None:
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Bridge()], force=True)
