"""Bytes become values here and nowhere else.

One orjson call per message: joining a run into one array was tried and gains nothing (0.60 against 0.55 µs
a record), while a pair of half messages could then pass for one whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import contains
from typing import Any, Final

import orjson

from stream_app.values import Run

Record = dict[str, Any]

#: More elements than this in one message are refused: one message is never split over windows.
MOST_ELEMENTS: Final = 10_000
#: Elements of arrays nested deeper than this are refused: orjson reads 1,024 levels but writes only 254, so that
#: one which must be forwarded by itself would stop every worker that reads it.
MOST_LEVELS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BadMessage:
    """A message, or one element of it, that is no record."""

    #: position of the message in its run
    position: int
    #: index of the element, None when the message as a whole is bad
    index: int | None
    #: a word from a closed set
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The records of a run, in order, as columns of equal length."""

    records: Sequence[Record]
    #: position in the run of the message that holds the record
    positions: Sequence[int]
    #: index inside the message when that is a JSON array, else 0
    indexes: Sequence[int]
    bad: Sequence[BadMessage]


def decode(run: Run, *, max_message_bytes: int) -> Decoded:
    """Parse every message of the run; what cannot be parsed is returned as bad, never raised."""
    try:
        records = list(map(orjson.loads, run.values))  # type: ignore[arg-type]  # None raises, and is dealt with below
    except (orjson.JSONDecodeError, TypeError):
        return _decode_one_by_one(run, max_message_bytes)
    if not _all_plain(records) or max(map(len, run.values), default=0) > max_message_bytes:  # type: ignore[arg-type]
        return _decode_one_by_one(run, max_message_bytes)
    return Decoded(records=records, positions=range(len(records)), indexes=(0,) * len(records), bad=())


def _all_plain(records: Sequence[Any]) -> bool:
    """Return whether every message is one object that is a record by itself."""
    return set(map(type, records)) <= {dict} and not any(map(contains, records, repeat("specversion")))


def _decode_one_by_one(run: Run, max_message_bytes: int) -> Decoded:
    records: list[Record] = []
    positions: list[int] = []
    indexes: list[int] = []
    bad: list[BadMessage] = []
    for position, value in enumerate(run.values):
        elements = _elements(position, value, max_message_bytes)
        if isinstance(elements, BadMessage):
            bad.append(elements)
            continue
        for index, element in enumerate(elements):
            flaw = _flaw(element, value)
            if flaw is not None:
                bad.append(_bad(position, index, *flaw))
                continue
            records.append(_unwrapped(element))
            positions.append(position)
            indexes.append(index)
    return Decoded(records=records, positions=positions, indexes=indexes, bad=bad)


def _elements(position: int, value: bytes | None, max_message_bytes: int) -> Sequence[Any] | BadMessage:
    if value is None:
        return _bad(position, None, "tombstone", "the message has no value")
    if len(value) > max_message_bytes:
        # looked at before parsing: what a parser does with 5 MB of brackets is not ours to find out
        return _bad(position, None, "too_large", f"{len(value)} bytes, at most {max_message_bytes} are accepted")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return _bad(position, None, "not_json", str(error))
    if not isinstance(parsed, list):
        return [parsed]
    if len(parsed) > MOST_ELEMENTS:
        return _bad(position, None, "too_large", f"{len(parsed)} elements, at most {MOST_ELEMENTS} are accepted")
    return parsed


def _flaw(element: object, value: bytes | None) -> tuple[str, str] | None:
    """Return why an element of the message is no record, as a reason and words for people."""
    if not isinstance(element, dict):
        return "not_an_object", f"expected a JSON object, got {_short(element)}"
    if _is_deep(element) and (value or b"").lstrip()[:1] == b"[":  # a lone record is forwarded as it is
        return "too_large", f"nested deeper than {MOST_LEVELS} levels"
    return None


def _is_deep(element: Record) -> bool:
    level: list[Any] = [element]
    for _ in range(MOST_LEVELS):
        inner = (value for outer in level for value in (outer.values() if isinstance(outer, dict) else outer))
        level = [value for value in inner if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _unwrapped(element: Record) -> Record:
    """Return the data of a structured-mode CloudEvent, anything else as it is."""
    data = element.get("data")
    if "specversion" in element and isinstance(data, dict):
        return {"event_id": f"{element.get('source', '')}#{element.get('id', '')}", **data}
    return element


def _bad(position: int, index: int | None, reason: str, detail: str) -> BadMessage:
    return BadMessage(position=position, index=index, reason=reason, detail=detail)


def _short(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def encode(value: Mapping[str, Any]) -> bytes:
    """Return the compact JSON of a record or event; numpy scalars and arrays are understood."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
