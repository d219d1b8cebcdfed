"""The dead-letter topics: read to their end, counted, and emptied back into where the letters came from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, TopicPartition

from stream_app.errors import NotFound, Outage, WrongArgument
from stream_app.kafka import client, topics
from stream_app.kafka.letters import FAILED_AT, REASON, Letter, Place, resurrect
from stream_app.ports import Deliver, Outgoing
from stream_app.settings import KafkaSettings

#: Letters delivered at a time.
BATCH: Final = 500
#: Messages taken from the client at a time, and seconds to wait for more once there is one.
AT_ONCE: Final = 1_000
LINGER_S: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Heap:
    """Letters of one topic, model and reason."""

    topic: str
    model: str
    reason: str
    letters: int = 0
    #: when the newest one failed, ISO 8601, and where it lies
    newest: str = ""
    newest_partition: int = -1
    newest_offset: int = -1
    _records: set[str] = field(default_factory=set)

    @property
    def records(self) -> int:
        """How many records they are: a crash at the wrong moment delivers a letter twice."""
        return len(self._records)

    def add(self, letter: Letter) -> None:
        """Count one more."""
        self.letters += 1
        self._records.add(letter.coordinates)
        failed_at = letter.header(FAILED_AT)
        if failed_at >= self.newest:
            self.newest, self.newest_partition, self.newest_offset = failed_at, letter.partition, letter.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which letters to send back; what is None does not matter."""

    reason: str | None = None
    partition: int | None = None
    offset: int | None = None
    #: values to send instead of those in the letters; when given, only these letters are sent
    corrections: Mapping[Place, bytes] | None = None

    def wants(self, letter: Letter) -> bool:
        """Return whether the letter is among them."""
        return (
            self.reason in {None, letter.header(REASON)}
            and self.partition in {None, letter.partition}
            and self.offset in {None, letter.offset}
            and (self.corrections is None or letter.place in self.corrections)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one letter."""

    topic: str
    partition: int
    offset: int
    #: the topic that it went to, None when it was refused
    to: str | None
    #: why it was refused, "" when it was not
    refusal: str


class Graveyard:
    """The dead-letter topics of what we read."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._suffix = settings.topics.dead_letter_suffix
        #: topics that letters can come from and go back to
        self.sources = settings.read_topics

    def topics(self, topic: str | None = None) -> Sequence[str]:
        """Return our dead-letter topics, or the one that is meant by its own or its source's name.

        Raises NotFound for a topic that is none of ours.
        """
        ours = [source + self._suffix for source in self.sources]
        if topic is None:
            return ours
        named = topic if topic in ours else topic + self._suffix
        if named not in ours:
            raise NotFound(f"topic is {topic!r}, expected one of: {', '.join(ours)}")
        return [named]

    def letters(self, chosen: Sequence[str]) -> Iterator[Letter]:
        """Yield every letter that lies in the topics now, in order within a partition.

        Raises NotFound for a topic that does not exist, and Outage.
        """
        admin = client.admin(self._settings)
        begins, ends = topics.begin_offsets(admin, chosen), topics.end_offsets(admin, chosen)
        open_ = {place: end for place, end in ends.items() if end > begins[place]}
        with self._reader({place: begins[place] for place in open_}) as reader:
            while open_:
                for message in _some(reader):
                    place = (str(message.topic()), message.partition() or 0)
                    if message.error() is None and (message.offset() or 0) < open_.get(place, 0):
                        yield _letter(message)
                    if message.error() is not None or (message.offset() or 0) >= open_.get(place, 0) - 1:
                        open_.pop(place, None)

    def letter(self, topic: str, partition: int, offset: int) -> Letter:
        """Return the letter that lies there; raises NotFound and Outage."""
        (named,) = self.topics(topic)
        admin = client.admin(self._settings)
        place = (named, partition)
        begin = topics.begin_offsets(admin, [named]).get(place, 0)
        end = topics.end_offsets(admin, [named]).get(place, 0)
        if begin <= offset < end:
            with self._reader({place: offset}) as reader:
                found = [_letter(m) for m in _some(reader) if m.error() is None and m.offset() == offset]
                if found:
                    return found[0]
        raise NotFound(
            f"no letter lies in {named}[{partition}] at offset {offset}; it holds those from {begin} to before {end}"
        )

    def model(self, letter: Letter) -> str:
        """Return the model that the letter's record was meant for."""
        return letter.model(self._settings.ingest)

    def heaps(self, letters: Iterable[Letter]) -> Sequence[Heap]:
        """Return the letters counted by topic, model and reason, the most first."""
        heaps: dict[tuple[str, str, str], Heap] = {}
        for letter in letters:
            key = (letter.topic, self.model(letter), letter.header(REASON))
            heap = heaps.setdefault(key, Heap(topic=key[0], model=key[1], reason=key[2]))
            heap.add(letter)
        return sorted(heaps.values(), key=lambda heap: -heap.letters)

    @contextmanager
    def _reader(self, starts: Mapping[tuple[str, int], int]) -> Iterator[confluent_kafka.Consumer]:
        reader = client.consumer(self._settings, enable_partition_eof=True)
        try:
            reader.assign([TopicPartition(topic, number, at) for (topic, number), at in starts.items()])
            yield reader
        finally:
            reader.close()


def replay(
    letters: Iterable[Letter], selection: Selection, sources: Sequence[str], deliver: Deliver, *, limit: int | None
) -> Iterator[Outcome]:
    """Send the selected letters back, at most `limit`, and yield what became of each once it is acknowledged.

    A correction for which there is no letter is yielded as refused. Raises Outage; what was yielded before is sent.
    Raises WrongArgument, with nothing sent, when there are letters but none for the reason that is asked for.
    """
    batch: list[tuple[Letter, Outgoing]] = []
    missing = dict(selection.corrections or {})
    for letter in _first(letters, selection, limit):
        corrected = missing.pop(letter.place, None)
        sent = resurrect(letter, sources, corrected)
        if isinstance(sent, str):
            yield _outcome(letter.place, None, sent)
            continue
        batch.append((letter, sent))
        if len(batch) == BATCH:
            yield from _delivered(deliver, batch)
            batch = []
    yield from _delivered(deliver, batch)
    if limit is None:
        yield from (_outcome(place, None, "no letter of the selection lies there") for place in missing)


def _first(letters: Iterable[Letter], selection: Selection, limit: int | None) -> Iterator[Letter]:
    reasons: set[str] = set()
    chosen = (letter for letter in _noting(reasons, letters) if selection.wants(letter))
    for count, letter in enumerate(chosen, 1):
        yield letter
        if count == limit:
            return
    if selection.reason is not None and reasons and selection.reason not in reasons:
        expected = ", ".join(sorted(reasons))
        raise WrongArgument(f"reason is {selection.reason!r}, expected one that letters have: {expected}")


def _noting(reasons: set[str], letters: Iterable[Letter]) -> Iterator[Letter]:
    for letter in letters:
        reasons.add(letter.header(REASON))
        yield letter


def _delivered(deliver: Deliver, batch: Sequence[tuple[Letter, Outgoing]]) -> Iterator[Outcome]:
    if batch:
        deliver([message for _, message in batch])
    for letter, message in batch:
        yield _outcome(letter.place, message.topic, "")


def _outcome(place: Place, to: str | None, refusal: str) -> Outcome:
    topic, partition, offset = place
    return Outcome(topic=topic, partition=partition, offset=offset, to=to, refusal=refusal)


def _some(reader: confluent_kafka.Consumer) -> Sequence[confluent_kafka.Message]:
    """Return the next messages and ends of partitions; raises Outage when none come."""
    messages = [*reader.consume(1, topics.PATIENCE_S), *reader.consume(AT_ONCE, LINGER_S)]
    for message in messages:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - public, by its documentation
            raise Outage(f"{message.topic()}[{message.partition()}]: {error.str()}")
    if not messages:
        raise Outage(f"the dead letters could not be read within {topics.PATIENCE_S:g} s")
    return messages


def _letter(message: Any) -> Letter:  # noqa: ANN401 - its annotations allow for what never is: text in headers
    headers = tuple((name, value or b"") for name, value in message.headers() or ())
    return Letter(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=headers,
    )
