"""What a run left behind, read with general tools only: broker, database and files, and not one import of ours.

Whoever shares code with the accused can only repeat its mistakes; so this reader knows the documented layout of
topics, tables and Parquet columns, and nothing else.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

#: Seconds without a message after which a topic that has more is called unreadable.
PATIENCE_S: Final = 20.0
#: Columns of the window files that identify a row.
COLUMNS: Final = (
    "seq", "pos", "incarnation", "topic", "partition", "offset", "index", "origin", "event_id", "prediction_id", "kind"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where a run took place."""

    bootstrap: str
    ground_truth: str
    #: model fed by each ingest topic
    ingest: Mapping[str, str]
    model_updated: str
    dead_letter_suffix: str
    #: file of the SQLite database, or a postgresql:// URL
    database: str
    #: storage root, to which paths of window files and artifacts are relative
    root: Path
    artifacts: Path

    @property
    def inputs(self) -> tuple[str, ...]:
        """The topics that are read."""
        return (self.ground_truth, *self.ingest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message as it lies in a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the log, by what identifies it."""

    model: str
    seq: int
    pos: int
    incarnation: str
    topic: str
    partition: int
    offset: int
    index: int
    origin: str | None
    event_id: str | None
    prediction_id: str | None
    kind: int


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Everything that the checks look at."""

    scene: Scene
    #: all messages of the input topics
    sent: Sequence[Sent] = ()
    #: all messages of their dead-letter topics
    letters: Sequence[Sent] = ()
    #: all messages of model-updated that compaction left
    events: Sequence[Sent] = ()
    #: rows of the tables `models`, `windows` (without contents), `metrics`, `positions`, …, as mappings
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    #: what is wrong with the files themselves
    broken_files: Sequence[str] = ()
    #: (model, epoch, seq) as seen from outside while the run went on
    observations: Sequence[tuple[str, int, int]] = ()


def gather(scene: Scene, observations: Sequence[tuple[str, int, int]] = ()) -> Evidence:
    """Read everything; the workers must have stopped."""
    tables, rows, broken = read_database(scene)
    return Evidence(
        scene=scene,
        sent=list(read_topics(scene.bootstrap, scene.inputs)),
        letters=list(read_topics(scene.bootstrap, [t + scene.dead_letter_suffix for t in scene.inputs])),
        events=list(read_topics(scene.bootstrap, [scene.model_updated])),
        tables=tables,
        rows=rows,
        broken_files=broken,
        observations=observations,
    )


def read_topics(bootstrap: str, topics: Sequence[str]) -> Iterator[Sent]:
    """Yield all committed messages of the topics."""
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": "faults-verifier",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
    }
    with closing(Consumer(config)) as consumer:
        known = consumer.list_topics(timeout=PATIENCE_S).topics
        open_ = {(topic, n) for topic in topics if topic in known for n in known[topic].partitions}
        consumer.assign([TopicPartition(topic, n, 0) for topic, n in open_])
        while open_:
            for message in _some(consumer):
                if message.error() is not None:
                    open_.discard((message.topic(), message.partition()))
                else:
                    yield _sent(message)


def _some(consumer: Consumer) -> Sequence[Any]:
    messages = [*consumer.consume(1, PATIENCE_S), *consumer.consume(10_000, 0.05)]
    if not messages:
        raise TimeoutError(f"the broker gave nothing for {PATIENCE_S:g} s")
    for error in filter(None, (message.error() for message in messages)):
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - public, by its documentation
            raise KafkaException(error)
    return messages


def _sent(message: Any) -> Sent:  # noqa: ANN401 - its annotations allow for what never is
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in message.headers() or ()}
    return Sent(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=headers,
    )


_QUERIES: Final = {
    "models": "SELECT name, epoch, seq, effects_seq, promotion_seq FROM models",
    "windows": "SELECT model, seq, epoch, closed_at, row_count, header, file FROM windows ORDER BY model, seq",
    "metrics": "SELECT model, seq, probe_hash, quarantined, body FROM metrics ORDER BY model, seq",
    "positions": "SELECT model, topic, partition, next_offset FROM positions",
    "partition_positions": "SELECT topic, partition, next_offset, dead_lettered, forwarded FROM partition_positions",
    "publications": "SELECT model, promotion_seq, version, artifact, bytes_deleted_at FROM publications",
    "versions": "SELECT model, number, kind, status, metrics FROM versions",
    "jobs": "SELECT id, model, status, attempts, version FROM jobs",
    "window_files": "SELECT path, sha256, replaced_at FROM window_files",
    "outbox": "SELECT event_id, sent_at FROM outbox",
}


def read_database(scene: Scene) -> tuple[Mapping[str, Sequence[Mapping[str, Any]]], Sequence[Row], Sequence[str]]:
    """Return the tables, the rows of the log, and what is wrong with its files."""
    with closing(_connect(scene.database)) as connection:
        tables = {name: list(_fetch(connection, query)) for name, query in _QUERIES.items()}
        inline = list(_fetch(connection, "SELECT model, seq, inline FROM windows WHERE inline IS NOT NULL"))
    rows = [row for window in inline for row in _rows(window["model"], bytes(window["inline"]))]
    broken = []
    windows = {(w["model"], w["seq"]): w["file"] for w in tables["windows"]}
    for path in sorted({w["file"] for w in tables["windows"] if w["file"]}):
        content = (scene.root / path).read_bytes() if (scene.root / path).exists() else b""
        named = [f["sha256"] for f in tables["window_files"] if f["path"] == path]
        if named != [sha256(content).hexdigest()]:
            broken.append(f"{path} is missing or not what the database says")
            continue
        model = next(model for (model, _), file in windows.items() if file == path)
        rows += [row for row in _rows(model, content) if windows.get((model, row.seq)) == path]
    return tables, rows, broken


def _connect(database: str) -> Any:  # noqa: ANN401 - any DB-API connection
    if database.startswith("postgresql://"):
        import psycopg  # noqa: PLC0415 - only where it is used

        return psycopg.connect(database)
    return sqlite3.connect(database, timeout=10)


def _fetch(connection: Any, query: str) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - the same
    cursor = connection.cursor()
    cursor.execute(query)
    names = [column[0] for column in cursor.description]
    for row in cursor.fetchall():
        yield dict(zip(names, row, strict=True))


def _rows(model: str, content: bytes) -> list[Row]:
    table = pq.read_table(BytesIO(content), columns=list(COLUMNS))
    return [Row(model=model, **values) for values in table.to_pylist()]


def elements(message: Sent) -> Sequence[Any]:
    """Return the records of a message: the elements of an array, else the one that it is; None is unreadable."""
    try:
        parsed = json.loads(message.value or b"")
    except (ValueError, RecursionError):
        return [None]
    return parsed if isinstance(parsed, list) else [parsed]
