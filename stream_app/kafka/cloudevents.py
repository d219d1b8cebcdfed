"""CloudEvents 1.0 on Kafka: written in binary mode, read in binary and structured mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from stream_app.errors import InvalidRecord

#: What all our events name as their source; ids are unique within it.
SOURCE: Final = "/stream_app"
_JSON: Final = "application/json"
_STRUCTURED: Final = "application/cloudevents+json"
_REQUIRED: Final = ("id", "source", "specversion", "type")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event as it was found."""

    id: str
    source: str
    type: str
    #: None where the sender gave none
    subject: str | None
    #: RFC 3339; None where the sender gave none
    time: str | None
    #: the payload's bytes; None is no payload
    data: bytes | None


def headers(*, event_id: str, type_: str, time_s: float, subject: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that make a JSON message an event in binary mode; `time_s` in seconds since the epoch."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": SOURCE,
        "ce_type": type_,
        "ce_time": datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z"),
        "ce_subject": subject,
        "content-type": _JSON,
    }
    return tuple((name, value.encode()) for name, value in attributes.items())


def read(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> CloudEvent | None:
    """Return the event of a Kafka message in either mode, None if it is a plain message.

    Raises InvalidRecord for a message that claims to be an event and is none.
    """
    found = {name.lower(): (raw or b"").decode("utf-8", "replace") for name, raw in headers}
    media_type = found.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _STRUCTURED:
        return _structured(value)
    if "ce_specversion" not in found:
        return None
    return _event({name.removeprefix("ce_"): text for name, text in found.items() if name.startswith("ce_")}, value)


def _structured(value: bytes | None) -> CloudEvent:
    try:
        envelope = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise InvalidRecord("cloudevent", f"not JSON, expected a structured CloudEvent: {error}") from error
    if not isinstance(envelope, dict):
        raise InvalidRecord("cloudevent", "not a JSON object, expected a structured CloudEvent")
    if "data_base64" in envelope:
        raise InvalidRecord("cloudevent", "data_base64 is binary data, expected data in JSON")
    return _event(envelope, orjson.dumps(envelope["data"]) if "data" in envelope else None)


def _event(attributes: Mapping[str, Any], data: bytes | None) -> CloudEvent:
    _check(attributes, _REQUIRED)
    optional = {name: attributes.get(name) for name in ("subject", "time")}
    return CloudEvent(id=attributes["id"], source=attributes["source"], type=attributes["type"], data=data, **optional)


def _check(attributes: Mapping[str, Any], required: Sequence[str]) -> None:
    for name in required:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise InvalidRecord("cloudevent", f"attribute {name!r} is {attributes.get(name)!r}, expected some text")
    if attributes["specversion"] != "1.0":
        raise InvalidRecord("cloudevent", f"attribute 'specversion' is {attributes['specversion']!r}, expected '1.0'")
