"""What a dead letter says, and the message that brings its record back.

A letter can be sent back more than once (an impatient operator, a crash in the middle): what is sent carries an
id made of the coordinates at which the record first failed, so that its model learns it once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from stream_app.errors import Misconfigured
from stream_app.kafka.dead_letters import ATTEMPTS, DIGEST, INDEX, PREFIX, attempts_of, is_count, is_ours
from stream_app.ports import Outgoing

#: Where a forwarded record first was, as `worker.routing` writes it. It goes when the record is sent back: the
#: high-water mark of its origin has passed it, so that with it the record would count as a repeat.
ORIGIN: Final = "x-stream-app-origin"
REASON: Final = "x-dlq-reason"
INCARNATION: Final = "x-dlq-incarnation"
FAILED_AT: Final = "x-dlq-failed-at"

#: Any incarnation (Kafka's topic ids may hold slashes), topic, partition, offset, index.
_ORIGIN: Final = re.compile(r".+/[^/]+/\d+/\d+/\d+")

#: Said of what `_written` cannot write.
_DEEP: Final = b"nested too deeply"

#: (topic, partition, offset) of a letter
Place: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter as it lies in its topic."""

    #: the dead-letter topic
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def place(self) -> Place:
        """Where the letter lies."""
        return self.topic, self.partition, self.offset

    @property
    def source(self) -> str:
        """The topic in which the record failed."""
        return self.header(PREFIX + "topic")

    @property
    def coordinates(self) -> str:
        """Where the record first was: "incarnation/topic/partition/offset/index"."""
        origin = self.header(ORIGIN)
        if _ORIGIN.fullmatch(origin):
            return origin
        names = (INCARNATION, PREFIX + "topic", PREFIX + "partition", PREFIX + "offset")
        return "/".join([*map(self.header, names), self.header(INDEX) or "0"])

    def header(self, name: str) -> str:
        """Return the newest header of that name as text, "" if there is none."""
        found = [value for n, value in self.headers if n == name]
        return found[-1].decode("utf-8", "replace") if found else ""

    def model(self, ingest: Mapping[str, str]) -> str:
        """Return the model that the record was meant for: its topic's, the one it names, or its key."""
        if self.source in ingest:
            return ingest[self.source]
        record = _parsed(self.value)
        named = record.get("model") if isinstance(record, dict) else None
        return named if isinstance(named, str) else (self.key or b"").decode("utf-8", "replace")


def resurrect(letter: Letter, sources: Sequence[str], corrected: bytes | None = None) -> Outgoing | str:
    """Return the message that brings the letter's record back, or why there can be none.

    1. the value: the corrected one, else the letter's, of which only the failed element when it names one
    2. an id from the record's first coordinates, where the producer gave none
    3. the producer's own headers, without ours, and how often it was sent back
    """
    if letter.source not in sources:
        return f"it came from topic {letter.source!r}, which is not read; expected one of: {', '.join(sources)}"
    if corrected is None and letter.header(DIGEST):
        return "it was too large to be kept: only a prefix and its sha256 are here; give its value with --file"
    if corrected is None and letter.value is None:
        return "it has no value; give one with --file"
    value = corrected if corrected is not None else _own_value(letter)  # 1
    if isinstance(value, str):
        return value
    value = _with_ids(value, letter.coordinates)  # 2
    theirs = tuple((n, v) for n, v in letter.headers if not is_ours(n) and n != ORIGIN)  # 3
    attempts = str(attempts_of(letter.headers) + 1).encode()
    return Outgoing(topic=letter.source, key=letter.key, value=value, headers=(*theirs, (ATTEMPTS, attempts)))


def read_corrections(lines: Iterable[bytes], topic: str) -> Mapping[Place, bytes]:
    """Return corrected values by the place of their letter in the dead-letter topic.

    Each line is `{"partition": 0, "offset": 17, "value": {…}}`; the value is a record or an array of records.
    Raises Misconfigured naming line, field and what was expected.
    """
    return dict(_correction(number, line, topic) for number, line in enumerate(lines, 1) if line.strip())


def _correction(number: int, line: bytes, topic: str) -> tuple[Place, bytes]:
    given = _parsed(line)
    if not isinstance(given, dict):
        raise Misconfigured(f"line {number}: expected a JSON object with partition, offset and value")
    for name in ("partition", "offset"):
        if type(given.get(name)) is not int or given[name] < 0:
            raise Misconfigured(f"line {number}: {name} is {_said(given, name)}, expected a whole number from 0")
    value = given.get("value")
    records = value if isinstance(value, list) else [value]
    if not records or not all(isinstance(record, dict) for record in records):
        said = _said(given, "value")
        raise Misconfigured(f"line {number}: value is {said}, expected an object or an array of objects")
    written = _written(value)
    if written is None:
        raise Misconfigured(f"line {number}: value is {_DEEP.decode()}, expected at most 254 levels")
    return (topic, given["partition"], given["offset"]), written


def _said(given: Mapping[str, Any], name: str) -> str:
    return (_written(given[name]) or _DEEP).decode()[:60] if name in given else "missing"


def _own_value(letter: Letter) -> bytes | str:
    """Return what failed: the value, or the element of it that the letter names; as text, why there is none."""
    index, value = letter.header(INDEX), letter.value or b""
    if not index:
        return value
    elements = _parsed(value)
    if not isinstance(elements, dict | list):  # the codec calls it element 0
        return f"its value, {value[:60].decode('utf-8', 'replace')}, is no record: give a corrected one with --file"
    if isinstance(elements, dict) or not is_count(index) or int(index) >= len(elements):
        return f"it names element {index} of an array, but its value has none"
    element = _written(elements[int(index)])
    if element is None:
        return f"element {index} of its value is nested too deeply to be sent alone: give it with --file"
    if not isinstance(elements[int(index)], dict):
        shown = element[:60].decode("utf-8", "replace")
        return f"element {index} of its value, {shown}, is no record: give a corrected one with --file"
    return element


def _written(value: object) -> bytes | None:
    """Return the JSON, None for what is nested more deeply than orjson writes: it reads 1,024 levels, writes 254."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return None


def _with_ids(value: bytes, coordinates: str) -> bytes:
    """Return the value with an id in each record that has none; byte for byte the same when all have."""
    parsed = _parsed(value)
    place, _, index = coordinates.rpartition("/")
    if isinstance(parsed, dict) and _lacks_id(parsed):
        return _written(parsed | {"event_id": f"dlq:{place}/{index}"}) or value
    if isinstance(parsed, list) and any(map(_lacks_id, parsed)):
        named = [r | {"event_id": f"dlq:{place}/{i}"} if _lacks_id(r) else r for i, r in enumerate(parsed)]
        return _written(named) or value
    return value


def _lacks_id(record: object) -> bool:
    # a CloudEvent in structured mode has an id: the codec makes it the event id of its data
    return isinstance(record, dict) and record.get("event_id") is None and "specversion" not in record


def _parsed(value: bytes | None) -> Any:  # noqa: ANN401 - JSON
    """Return what the codec would make of the bytes, None when they are no JSON."""
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
