"""Logs: one JSON object a line on standard error, or coloured lines on a terminal; never a secret.

Loggers of libraries go the same way and are quiet: they speak up from `warning`, or from `info` where our own
level is `debug`.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, TypeAlias

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from stream_app.redaction import REDACTED, is_secret_name, without_credentials
from stream_app.settings import LogSettings

EventDict: TypeAlias = MutableMapping[str, Any]

#: What every line begins with, in this order.
FIRST: Final = ("timestamp", "level", "event", "logger")


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send the logs of this process to the stream (default: standard error); may be called again."""
    stream = stream or sys.stderr
    shared = _shared()
    handler = logging.StreamHandler(stream)
    # what a line of the standard library brings as `extra` are fields, too
    foreign: list[Processor] = [*shared, structlog.stdlib.ExtraAdder()]
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=foreign, processors=_rendering(settings, stream)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if settings.level == "debug" else logging.WARNING)
    logging.getLogger("stream_app").setLevel(settings.level.upper())
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _shared() -> list[Processor]:
    """Return what happens to every line, whoever wrote it."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(settings: LogSettings, stream: TextIO) -> list[Processor]:
    # redaction comes after the traceback became text: messages of exceptions hold URLs, too
    last: list[Processor] = [ProcessorFormatter.remove_processors_meta]
    if settings.format == "console" or (settings.format == "auto" and stream.isatty()):
        colors = stream.isatty() and "NO_COLOR" not in os.environ
        # structlog's rich tracebacks print local variables, and with them whatever secret is at hand
        plain = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        return [*last, structlog.processors.format_exc_info, redact, plain]
    renderer = structlog.processors.JSONRenderer(serializer=_json)
    return [*last, structlog.processors.format_exc_info, redact, _ordered, renderer]


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace the values of secret names, at any depth, and credentials in any text."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: object) -> object:
    if is_secret_name(key):
        return REDACTED
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {name: _redacted(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", inner) for inner in value]
    return value


def _ordered(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {key: event[key] for key in FIRST if key in event} | {k: v for k, v in event.items() if k not in FIRST}


def _json(event: EventDict, **_options: object) -> str:
    # a value that JSON does not know must not cost the line
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()
