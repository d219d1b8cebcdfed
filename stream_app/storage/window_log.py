"""The fenced window log: a window exists once one transaction has said so."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Connection, Engine, RowMapping, and_, select

from stream_app.crashpoints import crashpoint
from stream_app.errors import Conflict, Corrupt, Fenced, Misconfigured, NotFound
from stream_app.messages import NAME_PATTERN
from stream_app.ports import Clock, Effects, WindowFile
from stream_app.storage import ownership, rows_codec
from stream_app.storage.control import answer_requests
from stream_app.storage.database import writing
from stream_app.storage.effects import SqlPublications, decode_metrics
from stream_app.storage.headers import encode_header
from stream_app.storage.merging import MERGE_ROWS, Merger
from stream_app.storage.reader_leases import ReaderLeases
from stream_app.storage.rows_codec import FeatureNames
from stream_app.storage.tables import metrics, models, window_files, windows
from stream_app.storage.window_files import WindowFiles
from stream_app.storage.window_reader import WindowReader
from stream_app.values import Partition, Tenure, Window, WindowHeader

#: Windows of fewer bytes travel in the transaction, unless a model says otherwise.
INLINE_BYTES: Final = 65_536

#: How often others may be faster in moving the windows that are written out for a listing.
WRITE_OUT_TRIES: Final = 20
#: How long files stay for whoever asked which there are.
FILES_LEASE_S: Final = 600.0
_FILE_COLUMNS: Final = tuple(
    window_files.c[name] for name in ("path", "first_seq", "last_seq", "row_count", "sha256", "size")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """Where a window's rows are; nowhere when it has none."""

    #: row of `window_files`
    file: dict[str, Any] | None = None
    inline: bytes | None = None


class SqlWindowLog:
    """`ports.WindowLog` over database and folder."""

    def __init__(
        self,
        engine: Engine,
        root: Path,
        *,
        publications: SqlPublications,
        clock: Clock,
        inline_bytes: Mapping[str, int] | None = None,
        merge_rows: int = MERGE_ROWS,
    ) -> None:
        """`root` is the storage root; `inline_bytes` by model, where it is not 65,536."""
        self.engine = engine
        #: shared with housekeeping, so that a failed write of either stops both
        self.folder = WindowFiles(root)
        self._leases = ReaderLeases(engine, clock)
        self._reader = WindowReader(engine, self.folder, self._leases)
        self.merger = Merger(engine, self.folder, self._reader, merge_rows=merge_rows)
        self._publications = publications
        self._clock = clock
        self._inline_bytes = dict(inline_bytes or {})
        self._names: dict[str, FeatureNames] = {}

    def take_over(self, model: str, *, owner: str, schema_json: str, start: Mapping[Partition, int]) -> Tenure:
        """Move the model's epoch on by one and return where the log stands; create the model if it is new.

        `schema_json` and `start` count at creation only.
        """
        if not re.fullmatch(NAME_PATTERN, model):
            raise Misconfigured(f"model {model!r}: expected a name like {NAME_PATTERN}")
        FeatureNames.of(schema_json)
        with writing(self.engine) as connection:
            return ownership.take_over(
                connection, model, owner=owner, schema_json=schema_json, start=start, now=self._clock()
            )

    def commit(self, window: Window) -> None:
        """Make the window durable, then move the model's seq to it.

        1. the rows as Parquet: a file, synced with its folder, or bytes for the transaction when small
        2. one transaction: epoch and seq compared and moved, header, positions, marks, requests answered
        Raises Fenced if epoch or seq moved on, and Outage; either way nothing was committed, or (when the
        database went away in the middle) only a new take-over can tell.
        """
        header, stored = window.header, self._store(window)  # 1
        with writing(self.engine) as connection:  # 2
            _move_seq(connection, header)
            if stored.file is not None:
                # A process that slept here may find that a sweep took its file for an orphan. The model's row
                # is locked by us now, as it is by a sweep: what is there now stays.
                self.folder.check_exists(stored.file["path"])
                connection.execute(window_files.insert(), stored.file)
            connection.execute(windows.insert(), _window_row(connection, window, stored))
            ownership.move_positions(connection, header.model, header.positions)
            ownership.move_marks(connection, header.model, header.origin_marks)
            answer_requests(connection, header)
            crashpoint("commit_open")
        crashpoint("committed")

    def apply_effects(self, model: str, *, epoch: int, effects: Effects) -> None:
        """Store what folding a window caused; raises Fenced, Conflict out of turn, Corrupt for a differing repeat."""
        self._publications.apply_effects(model, epoch=epoch, effects=effects)

    def windows(self, model: str, *, after: int = 0, through: int | None = None) -> Iterator[Window]:
        """Yield the committed windows with after < seq <= through in order.

        Raises Corrupt, which names model and seq, for rows that are not what was committed, and NotFound when
        retention dropped the first of them.
        """
        yield from self._reader.windows(model, self._feature_names(model), after, through)

    def table(
        self, model: str, *, after: int = 0, through: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows that retention left as one table in (seq, pos) order, all columns or those named."""
        chosen = None if columns is None else list(columns)
        return self._reader.table(model, self._feature_names(model), after, through, chosen)

    def rows_digest(self, model: str, *, through: int) -> tuple[int, str]:
        """Return count and chained digest of all rows ever committed with seq <= through, without reading them."""
        if through <= 0:
            return 0, ""
        query = select(windows.c.rows_total, windows.c.chain).where(windows.c.model == model)
        with self.engine.connect() as connection:
            row = connection.execute(query.where(windows.c.seq == through)).first()
        if row is None:
            raise NotFound(f"{model}: window {through} was not committed, or dropped by retention")
        return row.rows_total, row.chain

    def positions(self, model: str) -> Mapping[Partition, int]:
        """Return the next offset to read of each partition that the model has read."""
        with self.engine.connect() as connection:
            return ownership.read_positions(connection, model)

    def metrics(self, model: str, *, after: int = 0, newest: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the metrics rows with seq > after in order, or the newest few of them.

        Each has `seq`, `probe_hash` and `quarantined` (None, or why) beside what the fold reported.
        """
        query = select(metrics).where(metrics.c.model == model, metrics.c.seq > after).order_by(metrics.c.seq.desc())
        with self.engine.connect() as connection:
            rows = connection.execute(query.limit(newest)).mappings().all()
        return [decode_metrics(row) for row in reversed(rows)]

    def files(self, model: str) -> Sequence[WindowFile]:
        """Return the files that hold the rows; small windows still inline are written out first.

        The files stay for at least `FILES_LEASE_S` seconds, however soon they are merged into others.
        """
        self._feature_names(model)  # raises NotFound, before a lease is taken
        self._leases.take(model, FILES_LEASE_S)
        self._write_out(model)
        current = (window_files.c.model == model, window_files.c.replaced_at.is_(None))
        query = select(*_FILE_COLUMNS).where(*current).order_by(window_files.c.first_seq)
        with self.engine.connect() as connection:
            return [_window_file(row) for row in connection.execute(query).mappings()]

    def schema(self, model: str) -> str:
        """Return the schema's JSON as frozen at the model's creation; raises NotFound."""
        with self.engine.connect() as connection:
            return ownership.schema_of(connection, model)

    def oldest(self, model: str) -> int:
        """Return the seq of the oldest window that retention left, 1 when there is none."""
        return self._reader.oldest(model)

    def _write_out(self, model: str) -> None:
        """Write out what is inline now, on behalf of whoever owns the model at the moment."""
        through = self._epoch_and_seq(model)[1]
        for _ in range(WRITE_OUT_TRIES):
            try:
                self.merger.write_out(model, epoch=self._epoch_and_seq(model)[0], through=through, now=self._clock())
            except Fenced:
                continue  # another owner since we looked: what was written then is swept as an orphan
            if all(source.path or source.first_seq > through for source in self.merger.sources(model)):
                return
        raise Conflict(f"{model}: merges were faster {WRITE_OUT_TRIES} times, try again")

    def _epoch_and_seq(self, model: str) -> tuple[int, int]:
        with self.engine.connect() as connection:
            row = connection.execute(select(models.c.epoch, models.c.seq).where(models.c.name == model)).first()
        if row is None:
            raise NotFound(f"there is no model {model!r}: no worker has taken it over yet")
        return row.epoch, row.seq

    def _feature_names(self, model: str) -> FeatureNames:
        if model not in self._names:  # frozen at the model's creation, so read once
            self._names[model] = FeatureNames.of(self.schema(model))
        return self._names[model]

    def _store(self, window: Window) -> _Stored:
        """Encode the rows; write a file of them unless they are small."""
        header, rows = window.header, window.rows
        if rows is None or not len(rows):
            return _Stored()
        table = rows_codec.to_table(header.seq, rows, self._feature_names(header.model))
        content = rows_codec.to_parquet(table)
        if content.size < self._inline_bytes.get(header.model, INLINE_BYTES):
            return _Stored(inline=content.to_pybytes())
        return _Stored(file=self.folder.write(header.model, header.epoch, (header.seq, header.seq), len(rows), content))


def extend_chain(chain: str, rows_digest: str) -> str:
    """Return the chained digest after one more window; windows without rows leave it as it is."""
    return hashlib.sha256((chain + rows_digest).encode()).hexdigest() if rows_digest else chain


def _window_file(row: RowMapping) -> WindowFile:
    return WindowFile(
        path=row["path"],
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
        rows=row["row_count"],
        sha256=row["sha256"],
        size=row["size"],
    )


def _move_seq(connection: Connection, header: WindowHeader) -> None:
    turn = models.c.seq == header.seq - 1
    if ownership.move_on(connection, header.model, header.epoch, {"seq": header.seq}, turn) is None:
        raise Fenced(f"{header.model}: window {header.seq} is not the next: another writer has the same epoch")


def _window_row(connection: Connection, window: Window, stored: _Stored) -> dict[str, Any]:
    header, count = window.header, 0 if window.rows is None else len(window.rows)
    total, chain = _end_of_chain(connection, header)
    return {
        "model": header.model,
        "seq": header.seq,
        "epoch": header.epoch,
        "closed_at": header.closed_at,
        "row_count": count,
        "rows_digest": header.rows_digest,
        "rows_total": total + count,
        "chain": extend_chain(chain, header.rows_digest),
        "header": encode_header(header, [] if window.rows is None else rows_codec.present_columns(window.rows)),
        "file": None if stored.file is None else stored.file["path"],
        "inline": stored.inline,
    }


def _end_of_chain(connection: Connection, header: WindowHeader) -> tuple[int, str]:
    if header.seq == 1:
        return 0, ""
    before = and_(windows.c.model == header.model, windows.c.seq == header.seq - 1)
    row = connection.execute(select(windows.c.rows_total, windows.c.chain).where(before)).first()
    if row is None:
        raise Corrupt(f"{header.model}: window {header.seq - 1} is missing")
    return row.rows_total, row.chain
