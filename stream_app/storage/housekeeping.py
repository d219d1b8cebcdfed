"""Work off the hot path: merging, letting old windows go, removing what nobody refers to or reads.

Every transaction here holds the model's row with the owner's epoch first, as commits and merges do, so that
what it looks up stays true until it ends.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, func, select, update

from stream_app.storage.checkpoints import SqlCheckpoints
from stream_app.storage.database import writing
from stream_app.storage.ownership import hold
from stream_app.storage.reader_leases import forget_ended, unread
from stream_app.storage.tables import window_files, windows
from stream_app.storage.window_log import SqlWindowLog

#: An unreferenced file of this owner's own epoch may be a commit under way, but not for so long.
GRACE_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of each model's log is kept; None: all of it."""

    rows: int | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What one run did."""

    #: windows let go by retention
    dropped: int
    #: files written by merging
    merged: int
    #: files removed: replaced and unread, or orphans
    removed: int


class Housekeeping:
    """What the owner of a model does from time to time, in the background."""

    def __init__(self, log: SqlWindowLog, checkpoints: SqlCheckpoints, *, retention: Retention) -> None:
        self._log = log
        self._engine = log.engine
        self._checkpoints = checkpoints
        self._retention = retention

    def run_once(self, model: str, *, epoch: int, now: float) -> Tidied:
        """Do all of it for one model; raises Fenced when another owner exists, Outage."""
        return Tidied(
            dropped=self._drop_old(model, epoch, now),
            merged=self._log.merger.merge(model, epoch=epoch, now=now),
            removed=self._remove_replaced(model, epoch, now) + self._remove_orphans(model, epoch, now),
        )

    def _drop_old(self, model: str, epoch: int, now: float) -> int:
        """Let old windows go, but none from which the newer ones could not be folded.

        1. a checkpoint from which the windows after it can be folded, however many are dropped; it must verify
        2. one transaction pins it and drops the windows, in whole files only
        """
        with self._engine.connect() as connection:
            wish = self._wish(connection, model, now)
        if wish < self._log.oldest(model):
            return 0
        base = self._checkpoints.base(model, wish)  # 1
        if base is None:
            return 0
        with writing(self._engine) as connection:  # 2
            hold(connection, model, epoch)
            cut = _whole_files(connection, model, min(wish, base.seq))
            self._checkpoints.start_from(connection, model, base.seq, drop_before=cut)
            return _drop_windows(connection, model, cut, now)

    def _wish(self, connection: Connection, model: str, now: float) -> int:
        """Return the newest seq that retention would let go; never the newest of all, 0 for none."""
        mine = windows.c.model == model
        newest = connection.execute(select(func.max(windows.c.seq)).where(mine)).scalar() or 0
        wishes = [0]
        if self._retention.rows is not None:
            total = connection.execute(select(func.max(windows.c.rows_total)).where(mine)).scalar() or 0
            spare = and_(mine, windows.c.rows_total <= total - self._retention.rows)
            wishes.append(connection.execute(select(func.max(windows.c.seq)).where(spare)).scalar() or 0)
        if self._retention.age_s is not None:
            young = and_(mine, windows.c.closed_at >= now - self._retention.age_s)
            oldest_young = connection.execute(select(func.min(windows.c.seq)).where(young)).scalar()
            wishes.append(newest if oldest_young is None else oldest_young - 1)
        return min(max(wishes), newest - 1)

    def _remove_replaced(self, model: str, epoch: int, now: float) -> int:
        with writing(self._engine) as connection:
            hold(connection, model, epoch)
            forget_ended(connection, now)
            paths = unread(connection, model, now)
            connection.execute(window_files.delete().where(window_files.c.path.in_(paths)))
        for path in paths:  # after the commit: a row without its file would look like a loss
            self._log.folder.delete(path)
        return len(paths)

    def _remove_orphans(self, model: str, epoch: int, now: float) -> int:
        """Remove files that nothing refers to: an older owner's can never be committed, ours not after so long."""
        before = now - GRACE_S
        found = [file for file in self._log.folder.found(model) if file.epoch < epoch or file.modified_at < before]
        with writing(self._engine) as connection:
            hold(connection, model, epoch)
            known = connection.execute(select(window_files.c.path).where(window_files.c.model == model)).scalars()
            orphans = {file.path for file in found}.difference(known)
            for path in orphans:  # inside: a writer that slept looks in a transaction whether its file is there
                self._log.folder.delete(path)
            return len(orphans) + self._checkpoints.remove_orphans(connection, model, before=before)


def _whole_files(connection: Connection, model: str, wish: int) -> int:
    """Return the newest seq up to which windows can go without leaving their rows behind in a shared file."""
    shared = and_(
        window_files.c.model == model,
        window_files.c.replaced_at.is_(None),
        window_files.c.first_seq <= wish,
        window_files.c.last_seq > wish,
    )
    first = connection.execute(select(func.min(window_files.c.first_seq)).where(shared)).scalar()
    return wish if first is None else first - 1


def _drop_windows(connection: Connection, model: str, cut: int, now: float) -> int:
    gone = and_(window_files.c.model == model, window_files.c.replaced_at.is_(None), window_files.c.last_seq <= cut)
    connection.execute(update(window_files).where(gone).values(replaced_at=now))
    return connection.execute(windows.delete().where(windows.c.model == model, windows.c.seq <= cut)).rowcount
