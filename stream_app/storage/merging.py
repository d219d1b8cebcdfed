"""Putting small windows together into larger files, beside readers, writers and other mergers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select, update

from stream_app.errors import Conflict
from stream_app.storage import rows_codec
from stream_app.storage.database import reading, writing
from stream_app.storage.ownership import hold
from stream_app.storage.tables import window_files, windows
from stream_app.storage.window_files import WindowFiles
from stream_app.storage.window_reader import Vanished, WindowReader

#: Rows of a merged file, unless the settings say otherwise.
MERGE_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows that lie together: one file, or one inline window."""

    first_seq: int
    last_seq: int
    rows: int
    #: None: inline
    path: str | None


class Merger:
    """Rewrites where rows lie, never what they are."""

    def __init__(self, engine: Engine, files: WindowFiles, reader: WindowReader, *, merge_rows: int) -> None:
        self._engine = engine
        self._files = files
        self._reader = reader
        self._merge_rows = merge_rows

    def merge(self, model: str, *, epoch: int, now: float) -> int:
        """Merge what makes full files, or can grow no more; return how many files were written. Raises Fenced.

        Waiting for a full file means that each row is written twice at most, however small its window was.
        """
        return sum(self._replace(model, epoch, group, now) for group in self._full_groups(model))

    def write_out(self, model: str, *, epoch: int, through: int, now: float) -> int:
        """Write inline windows up to `through` into files; return how many were written. Raises Fenced."""
        inline = [source for source in self.sources(model) if source.last_seq <= through]
        runs = [list(run) for path, run in groupby(inline, key=lambda source: source.path) if path is None]
        groups = [group for run in runs for group in _groups(run, self._merge_rows)]
        return sum(self._replace(model, epoch, group, now) for group in groups)

    def sources(self, model: str) -> list[Source]:
        """Return where the model's rows lie, in the order of the log."""
        inline = select(windows.c.seq, windows.c.row_count).where(
            windows.c.model == model, windows.c.inline.is_not(None)
        )
        files = select(window_files).where(window_files.c.model == model, window_files.c.replaced_at.is_(None))
        with reading(self._engine) as connection:
            found = [
                Source(first_seq=row.first_seq, last_seq=row.last_seq, rows=row.row_count, path=row.path)
                for row in connection.execute(files)
            ]
            found += [
                Source(first_seq=row.seq, last_seq=row.seq, rows=row.row_count, path=None)
                for row in connection.execute(inline)
            ]
        return sorted(found, key=lambda source: source.first_seq)

    def _full_groups(self, model: str) -> Iterator[list[Source]]:
        """Yield runs of small sources that reach the size of a file, or are shut in by one that has it."""
        runs = [
            (small, list(run))
            for small, run in groupby(self.sources(model), key=lambda source: source.rows < self._merge_rows)
        ]
        for place, (small, run) in enumerate(runs):
            is_open = place == len(runs) - 1
            for group in _groups(run, self._merge_rows) if small else ():
                waits = is_open and sum(source.rows for source in group) < self._merge_rows
                if not waits and not (len(group) == 1 and group[0].path is not None):
                    yield group

    def _replace(self, model: str, epoch: int, group: list[Source], now: float) -> int:
        """Write one file for the group and let it take the group's place; 0 if somebody else was faster.

        1. the merged file, durable, 2. one transaction swaps the references if they are still what was read
        3. the old files stay for their readers, marked with the time
        """
        seqs = (group[0].first_seq, group[-1].last_seq)
        try:
            table = self._read(model, *seqs)
            content = rows_codec.to_parquet(table, compression="zstd")
            file = self._files.write(model, epoch, seqs, len(table), content)  # 1
        except Vanished:
            return 0
        try:
            with writing(self._engine) as connection:  # 2
                hold(connection, model, epoch)
                self._files.check_exists(file["path"])
                _check_unmoved(connection, model, group)
                _swap(connection, file, group, now)  # 3
        except Conflict:
            self._files.delete(file["path"])
            return 0
        return 1

    def _read(self, model: str, first: int, last: int) -> pa.Table:
        return rows_codec.concatenate(list(self._reader.tables(model, after=first - 1, through=last)))


def _groups(run: Iterable[Source], limit: int) -> Iterator[list[Source]]:
    """Yield all of a run in groups; each but the last has at least `limit` rows."""
    group, rows = list[Source](), 0
    for source in run:
        group.append(source)
        rows += source.rows
        if rows >= limit:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _check_unmoved(connection: Connection, model: str, group: list[Source]) -> None:
    """Raise Conflict unless the rows still lie where the group says; the model's row is locked by us."""
    planned: dict[str | None, int] = {}
    for source in group:
        planned[source.path] = planned.get(source.path, 0) + source.rows
    query = select(windows.c.file, func.sum(windows.c.row_count)).where(_has_rows(model, group))
    found = {path: int(rows) for path, rows in connection.execute(query.group_by(windows.c.file))}
    if found != planned:
        raise Conflict(f"{model}: windows {group[0].first_seq} to {group[-1].last_seq} were moved by somebody else")


def _swap(connection: Connection, file: dict[str, Any], group: list[Source], now: float) -> None:
    connection.execute(window_files.insert(), file)
    moved = update(windows).where(_has_rows(file["model"], group)).values(file=file["path"], inline=None)
    connection.execute(moved)
    old = [source.path for source in group if source.path is not None]
    connection.execute(update(window_files).where(window_files.c.path.in_(old)).values(replaced_at=now))


def _has_rows(model: str, group: list[Source]) -> ColumnElement[bool]:
    seqs = windows.c.seq.between(group[0].first_seq, group[-1].last_seq)
    return and_(windows.c.model == model, seqs, windows.c.row_count > 0)
