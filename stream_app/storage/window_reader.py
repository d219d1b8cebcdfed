"""Reading the log beside writers and merges: which bytes hold which windows, and that they are what they were."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from sqlalchemy import Engine, RowMapping, func, select

from stream_app.errors import Corrupt, NotFound
from stream_app.storage import rows_codec
from stream_app.storage.headers import decode_header
from stream_app.storage.reader_leases import ReaderLeases
from stream_app.storage.rows_codec import FeatureNames
from stream_app.storage.tables import window_files, windows
from stream_app.storage.window_files import WindowFiles
from stream_app.values import Window

#: Consecutive rows of `windows` whose rows lie in the same file, or a single inline or header-only window.
Stretch: TypeAlias = list[RowMapping]

#: Windows looked up at a time; their inline bytes are at most so many times the limit of inline windows.
PAGE: Final = 256
#: How often a file may vanish under a reader (each time a merge was faster) before it counts as lost.
_TRIES: Final = 5


class Vanished(Exception):  # noqa: N818 - no error yet: the reference may be stale
    """A file is not there: replaced since its reference was read, or lost."""


class WindowReader:
    """Committed windows of one database and folder."""

    def __init__(self, engine: Engine, files: WindowFiles, leases: ReaderLeases) -> None:
        self._engine = engine
        self._files = files
        self._leases = leases

    def windows(self, model: str, names: FeatureNames, after: int, through: int | None) -> Iterator[Window]:
        """Yield the windows in order, each checked against its digest."""
        with self._leases.held(model):
            for stretch, table in self._stretches(model, after, through, None):
                for row, part in zip(stretch, _split(stretch, table), strict=True):
                    yield _window(model, row, part, names)

    def table(
        self, model: str, names: FeatureNames, after: int, through: int | None, columns: list[str] | None
    ) -> pa.Table:
        """Return the rows that are still there as one table."""
        with self._leases.held(model):
            first = max(after, self.oldest(model) - 1)
            parts = [table for _, table in self._stretches(model, first, through, columns) if table is not None]
        empty = rows_codec.empty_table(names)
        return rows_codec.concatenate([empty if columns is None else empty.select(columns), *parts])

    def oldest(self, model: str) -> int:
        """Return the seq of the oldest window that retention left, 1 when there is none."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.min(windows.c.seq)).where(windows.c.model == model)).scalar() or 1

    def tables(self, model: str, *, after: int, through: int) -> Iterator[pa.Table]:
        """Yield the rows without a lease; raises Vanished when a file is replaced meanwhile."""
        reached, opened = after, dict[str, pa.Table]()
        while page := self.page(model, reached, through):
            self._check_order(model, reached, page)
            for stretch in stretches(page):
                if (table := self._load(model, stretch, None, opened)) is not None:
                    yield table
            reached = page[-1]["seq"]

    def _stretches(
        self, model: str, after: int, through: int | None, columns: list[str] | None
    ) -> Iterator[tuple[Stretch, pa.Table | None]]:
        reached, tries = after, 0
        opened: dict[str, pa.Table] = {}
        while page := self.page(model, reached, through):
            self._check_order(model, reached, page)
            for stretch in stretches(page):
                try:
                    table = self._load(model, stretch, columns, opened)
                except Vanished:
                    tries += 1
                    _check_tries(model, stretch, tries)
                    break  # its reference is looked up anew
                yield stretch, table
                reached, tries = stretch[-1]["seq"], 0

    def page(self, model: str, after: int, through: int | None) -> Sequence[RowMapping]:
        """Return the next rows of `windows`, each with `sha256` of its file."""
        query = (
            select(windows, window_files.c.sha256)
            .outerjoin(window_files, window_files.c.path == windows.c.file)
            .where(windows.c.model == model, windows.c.seq > after)
            .order_by(windows.c.seq)
            .limit(PAGE)
        )
        if through is not None:
            query = query.where(windows.c.seq <= through)
        with self._engine.connect() as connection:
            return connection.execute(query).mappings().all()

    def _check_order(self, model: str, reached: int, page: Sequence[RowMapping]) -> None:
        """A fold that skipped a window would be silently wrong: raise NotFound or Corrupt instead."""
        found = [row["seq"] for row in page]
        if found == list(range(reached + 1, reached + 1 + len(found))):
            return
        oldest = self.oldest(model)
        if oldest > reached + 1:
            raise NotFound(f"{model}: window {reached + 1} was dropped by retention; the oldest is {oldest}")
        raise Corrupt(f"{model}: windows are missing between {reached} and {found[-1]}")

    def _load(
        self, model: str, stretch: Stretch, columns: list[str] | None, opened: dict[str, pa.Table]
    ) -> pa.Table | None:
        first, last = stretch[0], stretch[-1]
        if first["row_count"] == 0:
            return None
        if first["file"] is None:
            return _parse(model, first, bytes(first["inline"]), columns)
        table = self._opened(model, first, opened)
        bounds = np.searchsorted(table["seq"].to_numpy(), [first["seq"], last["seq"] + 1])
        part = table.slice(bounds[0], bounds[1] - bounds[0])
        return part if columns is None else part.select(columns)

    def _opened(self, model: str, row: RowMapping, opened: dict[str, pa.Table]) -> pa.Table:
        """Return a whole file, kept until the next is opened: stretches of one file come one after the other."""
        path = row["file"]
        if path not in opened:
            opened.clear()
            try:
                content = self._files.read(path)
            except FileNotFoundError as error:
                raise Vanished from error
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                raise Corrupt(f"{model}: window {row['seq']}: file {path} does not have the digest it was stored with")
            opened[path] = _parse(model, row, content, None)
        return opened[path]


def stretches(page: Sequence[RowMapping]) -> Iterator[Stretch]:
    """Yield consecutive rows together that share a file, all others alone."""
    for path, rows in groupby(page, key=lambda row: row["file"]):
        if path is None:
            yield from ([row] for row in rows)
        else:
            yield list(rows)


def _parse(model: str, row: RowMapping, content: bytes, columns: list[str] | None) -> pa.Table:
    try:
        return rows_codec.from_parquet(content, columns)
    except pa.ArrowException as error:
        raise Corrupt(f"{model}: window {row['seq']}: its rows cannot be read: {error}") from error


def _split(stretch: Stretch, table: pa.Table | None) -> Iterator[pa.Table | None]:
    first = 0
    for row in stretch:
        yield None if table is None else table.slice(first, row["row_count"])
        first += row["row_count"]


def _window(model: str, row: RowMapping, table: pa.Table | None, names: FeatureNames) -> Window:
    header, present = decode_header(model, row)
    if table is None:
        return Window(header=header, rows=None)
    rows = rows_codec.from_table(table, names, present) if len(table) == row["row_count"] else None
    if rows is None or rows_codec.rows_digest(rows) != header.rows_digest:
        raise Corrupt(f"{model}: window {header.seq}: its rows do not have the digest they were stored with")
    return Window(header=header, rows=rows)


def _check_tries(model: str, stretch: Stretch, tries: int) -> None:
    if tries == _TRIES:
        raise Corrupt(f"{model}: window {stretch[0]['seq']}: file {stretch[0]['file']} is missing")
