"""Logs: one JSON object a line, nothing secret in it, libraries quiet."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from stream_app.redaction import REDACTED, is_secret_name, without_credentials
from stream_app.settings import LogSettings
from stream_app.telemetry.logs import configure


class Output(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Give the loggers back as they were."""
    root, ours = logging.getLogger(), logging.getLogger("stream_app")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:], _, _ = before
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def log(name: str = "stream_app.test") -> Any:  # noqa: ANN401 - structlog's own type is dynamic
    return structlog.stdlib.get_logger(name)


def fail(message: str) -> None:
    raise ValueError(message)


def test_a_line_is_an_object_that_begins_with_time_level_event_and_logger() -> None:
    output = Output()
    configure(LogSettings(), output)

    log().info("took over", model="m", seq=7)

    (line,) = output.lines
    assert list(line) == ["timestamp", "level", "event", "logger", "model", "seq"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["logger"], line["seq"]) == ("info", "took over", "stream_app.test", 7)


def test_context_is_added_to_every_line() -> None:
    output = Output()
    configure(LogSettings(), output)

    with structlog.contextvars.bound_contextvars(model="m", partition=3):
        log().info("one")
        logging.getLogger("faust").warning("two")

    assert [(line["model"], line["partition"]) for line in output.lines] == [("m", 3), ("m", 3)]


@pytest.mark.parametrize("name", ["faust", "mode.worker", "aiokafka.consumer", "sqlalchemy.engine", "alembic"])
def test_libraries_are_heard_from_warning_on(name: str) -> None:
    output = Output()
    configure(LogSettings(), output)

    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("at %s", "offset 7")

    assert [(line["logger"], line["event"]) for line in output.lines] == [(name, "at offset 7")]


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_our_own_level_is_a_setting(level: str, heard: int) -> None:
    output = Output()
    configure(LogSettings.model_validate({"level": level}), output)

    for severity in ("debug", "info", "warning", "error"):
        log().log(logging.getLevelNamesMapping()[severity.upper()], severity)

    assert len(output.lines) == heard


def test_a_second_call_replaces_the_first() -> None:
    first, second = Output(), Output()
    configure(LogSettings(), first)
    configure(LogSettings(), second)

    log().info("once")

    assert (len(first.lines), len(second.lines)) == (0, 1)


def test_secrets_do_not_reach_the_output_whatever_way_they_take() -> None:
    output = Output()
    configure(LogSettings(), output)
    secret = "hunter2"  # noqa: S105 - the point is that it does not show
    url = f"postgresql+psycopg://user:{secret}@host/db"

    log().info("a", password=secret, nested={"sasl.password": secret, "urls": [url]})
    log().info(f"connect to {url}")
    logging.getLogger("sqlalchemy").warning("options %s", {"password": secret})
    try:
        fail(f"cannot reach {url}")
    except ValueError:
        log().exception("b")

    assert len(output.lines) == 4
    assert secret not in output.getvalue()
    assert "host/db" in output.getvalue()


def test_an_exception_is_one_line_with_its_traceback() -> None:
    output = Output()
    configure(LogSettings(), output)

    try:
        fail("bad")
    except ValueError:
        log().exception("failed")

    (line,) = output.lines
    assert line["exception"].splitlines()[-1] == "ValueError: bad"


def test_a_value_that_json_does_not_know_does_not_cost_the_line() -> None:
    output = Output()
    configure(LogSettings(), output)

    log().info("a", value=object(), names={"x"}, codes={1: 2})

    assert output.lines[0]["event"] == "a"


@pytest.mark.parametrize(
    ("format_", "terminal", "is_json"),
    [("auto", False, True), ("auto", True, False), ("json", True, True), ("console", False, False)],
)
def test_people_at_a_terminal_get_lines_for_people(format_: str, terminal: bool, is_json: bool) -> None:
    output = Output(terminal=terminal)
    configure(LogSettings.model_validate({"format": format_}), output)

    log().info("took over")

    assert output.getvalue().startswith("{") is is_json
    assert "took over" in output.getvalue()


def test_the_console_shows_no_local_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    output = Output(terminal=True)
    configure(LogSettings(), output)
    hidden = "hunter" + str(1 + 1)

    try:
        fail("bad")
    except ValueError:
        log().exception("failed")

    assert hidden not in output.getvalue()
    assert "\x1b" not in output.getvalue()
    assert "ValueError: bad" in output.getvalue()


@pytest.mark.parametrize(
    "name", ["password", "sasl.password", "ssl.key.pem", "AWS_SECRET_ACCESS_KEY", "api_key", "signing_key", "token"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["key", "model", "ssl.key.location", "sasl.username", "monkey", "verify_key"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h/db", "postgresql://***@h/db"),
        ("http://h/a@b", "http://h/a@b"),
        ("sasl.password=abc, x=1", f"sasl.password={REDACTED}, x=1"),
        ("{'password': 'a b', 'x': 1}", None),
        ("nothing here", "nothing here"),
    ],
)
def test_credentials_inside_a_text(text: str, shown: str | None) -> None:
    found = without_credentials(text)

    assert found == shown if shown else "a b" not in found


def test_what_a_plain_logger_brings_as_extra_are_fields() -> None:
    output = Output()
    configure(LogSettings(), output)

    logging.getLogger("stream_app.test").info("took over", extra={"model": "m", "api_key": "hunter2"})

    (line,) = output.lines
    assert (line["event"], line["model"], line["api_key"]) == ("took over", "m", REDACTED)
