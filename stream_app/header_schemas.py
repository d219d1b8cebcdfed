"""JSON Schemas of the headers that our messages carry."""

from collections.abc import Mapping
from typing import Any, Final

_TEXT: Final = {"type": "string"}


def _headers(title: str, description: str, required: Mapping[str, str], optional: Mapping[str, str]) -> dict[str, Any]:
    fields = {name: {**_TEXT, "description": meaning} for name, meaning in {**required, **optional}.items()}
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": _TEXT,
    }


def event_headers() -> dict[str, Any]:
    """Return the schema of an event's headers."""
    return _headers(
        "CloudEventHeaders",
        "CloudEvents 1.0 in Kafka's binary mode.",
        {
            "ce_specversion": "1.0",
            "ce_id": "the same at each repetition of an event",
            "ce_source": "who sent it",
            "ce_type": "what happened, e.g. io.stream_app.drift.detected.v1",
            "ce_time": "when, RFC 3339",
            "content-type": "application/json",
        },
        {"ce_subject": "name of the model"},
    )


def dead_letter_headers() -> dict[str, Any]:
    """Return the schema of what is added to a dead letter's headers."""
    connect = "__connect.errors."
    return _headers(
        "DeadLetterHeaders",
        "Added to the original headers. The names are those of Kafka Connect, so that existing tools read them.",
        {
            f"{connect}topic": "where the message was",
            f"{connect}partition": "its partition",
            f"{connect}offset": "its offset",
            f"{connect}stage": "VALUE_CONVERTER when it could not be decoded, else the reason",
            f"{connect}class.name": "which part of stream_app refused it",
            f"{connect}exception.class.name": "class of the error",
            f"{connect}exception.message": "what is wrong, for people",
            f"{connect}exception.stacktrace": "where it was refused, at most 4 kB",
            "x-dlq-reason": "what is wrong, a word from a closed set",
            "x-dlq-attempts": "how often it was replayed before",
            "x-dlq-failed-at": "when, ISO 8601",
            "x-dlq-incarnation": "which topic of that name: Kafka's topic id, or the embedded cluster's",
            "x-dlq-consumer-group": "who refused it",
            "x-dlq-app-version": "version of stream_app",
        },
        {
            "x-dlq-index": "which element of a JSON array is meant",
            "x-dlq-sha256": "digest of the whole value, when only its beginning is kept",
            "x-dlq-size": "bytes of the whole value, when only its beginning is kept",
        },
    )
