"""Dead letters: what could never be processed, byte for byte, with the reason in its headers.

The names of the headers are Kafka Connect's, so that existing tools read them.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from stream_app import __version__
from stream_app.ports import Outgoing
from stream_app.values import Run

PREFIX: Final = "__connect.errors."
ATTEMPTS: Final = "x-dlq-attempts"
INDEX: Final = "x-dlq-index"
#: Present when the value is too large to keep: its digest and size; the value is then a prefix of it.
DIGEST: Final = "x-dlq-sha256"
SIZE: Final = "x-dlq-size"
#: Bytes kept of a value that is larger than a message may be.
KEPT: Final = 65_536
MOST_DIGITS: Final = 9
LONGEST_TRACE: Final = 4_096
_OURS: Final = (PREFIX, "x-dlq-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grave:
    """Where dead letters of a worker go."""

    suffix: str
    group: str
    max_message_bytes: int


def dead_letter(
    grave: Grave, run: Run, position: int, *, index: int | None, reason: str, error: BaseException | str, now: float
) -> Outgoing:
    """Return the dead letter of one message, or of one element of it when `index` is given."""
    value = run.values[position]
    kept = value if value is None or len(value) <= grave.max_message_bytes else value[:KEPT]
    ours = {
        PREFIX + "topic": run.partition.topic,
        PREFIX + "partition": str(run.partition.number),
        PREFIX + "offset": str(run.offsets[position]),
        PREFIX + "stage": "VALUE_CONVERTER" if reason in {"not_json", "not_an_object", "tombstone"} else reason,
        PREFIX + "class.name": "stream_app.worker",
        PREFIX + "exception.class.name": "stream_app.errors.InvalidRecord",
        PREFIX + "exception.message": str(error),
        PREFIX + "exception.stacktrace": _trace(error),
        "x-dlq-reason": reason,
        "x-dlq-incarnation": run.partition.incarnation,
        "x-dlq-failed-at": datetime.fromtimestamp(now, UTC).isoformat(),
        "x-dlq-consumer-group": grave.group,
        "x-dlq-app-version": __version__,
    }
    if index is not None:
        ours[INDEX] = str(index)
    if value is not None and kept is not value:
        ours |= {DIGEST: sha256(value).hexdigest(), SIZE: str(len(value))}
    theirs = tuple((n, v) for n, v in run.headers[position] if not is_ours(n))
    attempts = attempts_of(run.headers[position])
    headers = (*theirs, (ATTEMPTS, str(attempts).encode()), *((n, v.encode()) for n, v in ours.items()))
    return Outgoing(topic=run.partition.topic + grave.suffix, key=run.keys[position], value=kept, headers=headers)


def is_ours(header: str) -> bool:
    """Return whether a header was added by dead-lettering and goes when the record is replayed."""
    return header.startswith(_OURS)


def attempts_of(headers: Sequence[tuple[str, bytes]]) -> int:
    """Return how often a message has been replayed before."""
    found = [value for name, value in headers if name == ATTEMPTS]
    counted = (found[-1] or b"").decode("ascii", "replace") if found else ""
    return int(counted) if is_count(counted) else 0


def is_count(text: str) -> bool:
    """Return whether a header holds a number that we may have written; a forged one may have any length."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def _trace(error: BaseException | str) -> str:
    if isinstance(error, str):
        return ""
    return "".join(traceback.format_exception(error))[-LONGEST_TRACE:]
