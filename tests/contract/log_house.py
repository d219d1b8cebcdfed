"""A log with everything around it, and windows to put into it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
from sqlalchemy import Engine, insert, select

from stream_app.ports import Effects, Publication
from stream_app.storage import tables
from stream_app.storage.control import SqlControlRequests
from stream_app.storage.effects import SqlPublications
from stream_app.storage.rows_codec import rows_digest
from stream_app.storage.window_log import SqlWindowLog
from stream_app.values import (
    Closing,
    Counts,
    Features,
    FoldReport,
    Partition,
    Rows,
    StoredArtifact,
    Tenure,
    Window,
    WindowHeader,
)

HOME = Partition(incarnation="i1", topic="ground-truth", number=2)
SCHEMA = orjson.dumps({"numeric": ["x", "y"], "categorical": ["c"], "target": "t"}).decode()
NOW = 1_000.0
#: Rows of random numbers beyond this many do not fit into the transaction.
MANY = 3_000


def make_rows(count: int, *, first: int = 0, seed: int = 0) -> Rows:
    rng = np.random.default_rng([seed, first])
    categories = np.array([["a"], ["ß"], [None]], object)[np.arange(count) % 3]
    return Rows(
        partition=HOME,
        offsets=np.arange(first, first + count) * 2,
        indexes=np.zeros(count, np.int64),
        occurred_at_ms=np.arange(count) + 1_700_000_000_000,
        kinds=np.zeros(count, np.int8),
        features=Features(numeric=rng.normal(size=(count, 2)), categorical=categories),
        labels=rng.integers(0, 2, count).astype(float),
        event_ids=[f"e{first + i}" for i in range(count)],
    )


def make_window(tenure: Tenure, seq: int, rows: Rows | None = None, **changes: object) -> Window:
    header = WindowHeader(
        model=tenure.model,
        epoch=tenure.epoch,
        seq=seq,
        closed_at=NOW + seq,
        closing=Closing.SIZE,
        positions={HOME: int(rows.offsets[-1]) + 1} if rows else {},
        origin_marks={},
        counts=Counts(learned=len(rows) if rows else 0),
        schema_id="s" * 64,
        fold_digest="f" * 64,
        rows_digest=rows_digest(rows) if rows else "",
    )
    return Window(header=replace(header, **changes), rows=rows)


def same_rows(left: Rows | None, right: Rows | None) -> bool:
    return left is right or (left is not None and right is not None and rows_digest(left) == rows_digest(right))


def effects_of(seq: int, **changes: object) -> Effects:
    return Effects(report=FoldReport(seq=seq, metrics={"accuracy": 0.5, "n": seq}, probe_hash="p" * 64), **changes)


def publication(version: str = "1.1", trained_through: int = 1) -> Publication:
    return Publication(
        version=version,
        event=lambda promotion_seq: b"event %d" % promotion_seq,
        artifact=StoredArtifact(path="m/a.zip", sha256="0" * 64, size=3, signature="s"),
        algorithm="river:LogisticRegression",
        trained_through=trained_through,
    )


class House:
    """A log with everything around it, on one database."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine, self.root = engine, root
        self.publications = SqlPublications(
            engine, model_updated="model-updated", learning_events="learning-events", clock=lambda: NOW
        )
        self.control = SqlControlRequests(engine, clock=lambda: NOW)
        self.log = self.other_log()

    def other_log(self, *, merge_rows: int = 50_000, inline_bytes: int = 65_536) -> SqlWindowLog:
        return SqlWindowLog(
            self.engine,
            self.root,
            publications=self.publications,
            clock=lambda: NOW,
            merge_rows=merge_rows,
            inline_bytes={"m": inline_bytes},
        )

    def own(self, model: str = "m") -> Tenure:
        return self.log.take_over(model, owner="host:1", schema_json=SCHEMA, start={HOME: 0})

    def outbox(self) -> list[dict[str, object]]:
        with self.engine.connect() as connection:
            rows = connection.execute(select(tables.outbox).order_by(tables.outbox.c.id)).mappings()
            return [dict(row) for row in rows]

    def model(self) -> dict[str, object]:
        with self.engine.connect() as connection:
            return dict(connection.execute(select(tables.models)).mappings().one())

    def add_version(self, number: int) -> None:
        row = {"model": "m", "number": number, "kind": "batch", "algorithm": "a", "status": "gated", "metrics": "{}"}
        row |= {"trained_through": 1, "row_count": 1, "rows_digest": "", "parent": 0, "trigger": "t", "created_at": 0.0}
        with self.engine.begin() as connection:
            connection.execute(insert(tables.versions).values(row))

    def status(self, number: int) -> str:
        with self.engine.connect() as connection:
            query = select(tables.versions.c.status).where(tables.versions.c.number == number)
            return str(connection.execute(query).scalar_one())
