"""CloudEvents: what we write is read back, and both modes of others are understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import InvalidRecord
from stream_app.kafka.cloudevents import CloudEvent, headers, read

STRUCTURED = [("content-type", b"application/cloudevents+json; charset=utf-8")]


def test_the_headers_are_those_of_the_binary_mode() -> None:
    assert headers(event_id="m:3", type_="io.x.v1", time_s=1.5, subject="m") == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"m:3"),
        ("ce_source", b"/stream_app"),
        ("ce_type", b"io.x.v1"),
        ("ce_time", b"1970-01-01T00:00:01.500000Z"),
        ("ce_subject", b"m"),
        ("content-type", b"application/json"),
    )


@given(event_id=st.text(min_size=1), type_=st.text(min_size=1), subject=st.text(min_size=1), data=st.binary())
def test_what_was_written_is_read(event_id: str, type_: str, subject: str, data: bytes) -> None:
    event = read(headers(event_id=event_id, type_=type_, time_s=0, subject=subject), data)
    assert event == CloudEvent(
        id=event_id, source="/stream_app", type=type_, subject=subject, time="1970-01-01T00:00:00Z", data=data
    )


def test_a_plain_message_is_no_event() -> None:
    assert read([], b"{}") is None
    assert read([("content-type", b"application/json"), ("x", None)], b"{}") is None


def test_a_structured_event_is_read() -> None:
    value = b'{"specversion": "1.0", "id": "7", "source": "s", "type": "t", "data": {"a": 1}, "extra": 1}'
    assert read(STRUCTURED, value) == CloudEvent(id="7", source="s", type="t", subject=None, time=None, data=b'{"a":1}')


def test_an_event_without_data_is_read() -> None:
    event = read(STRUCTURED, b'{"specversion": "1.0", "id": "7", "source": "s", "type": "t"}')
    assert event is not None
    assert event.data is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"specversion": "1.0", "source": "s", "type": "t"}', "'id' is None, expected some text"),
        (b'{"specversion": "1.0", "id": 7, "source": "s", "type": "t"}', "'id' is 7, expected some text"),
        (b'{"specversion": "0.3", "id": "7", "source": "s", "type": "t"}', "'0.3', expected '1.0'"),
        (b'{"specversion": "1.0", "id": "7", "source": "s", "type": "t", "data_base64": ""}', "data_base64"),
    ],
)
def test_what_claims_to_be_an_event_and_is_none_is_refused(value: bytes | None, message: str) -> None:
    with pytest.raises(InvalidRecord, match=message):
        read(STRUCTURED, value)


def test_a_binary_event_without_its_attributes_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="'id' is None"):
        read([("ce_specversion", b"1.0")], b"{}")
