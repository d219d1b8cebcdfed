"""Readers of window files say so, and files that a merge replaced stay until they are done."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, delete, exists, select

from stream_app.ports import Clock
from stream_app.storage.tables import reader_leases, window_files

#: A reader that died gives its lease back after so long.
LEASE_S: Final = 3600.0
#: Clocks of two hosts may differ by so much.
SKEW_S: Final = 60.0


class ReaderLeases:
    """Leases on all files of a model as they are when the lease begins."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    @contextmanager
    def held(self, model: str) -> Iterator[None]:
        """Hold a lease: take it before looking up which files to read."""
        lease = self.take(model, LEASE_S)
        try:
            yield
        finally:
            with self._engine.begin() as connection:
                connection.execute(delete(reader_leases).where(reader_leases.c.id == lease))

    def take(self, model: str, lease_s: float) -> int:
        """Take a lease that ends by itself, for readers outside of our processes; return its id."""
        now = self._clock()
        holder = f"{socket.gethostname()}:{os.getpid()}"[:200]
        row = {"model": model, "holder": holder, "began": now, "until": now + lease_s}
        with self._engine.begin() as connection:
            taken = connection.execute(reader_leases.insert().values(row).returning(reader_leases.c.id))
            return int(taken.scalar_one())


def forget_ended(connection: Connection, now: float) -> None:
    """Remove the leases of readers that died."""
    connection.execute(delete(reader_leases).where(reader_leases.c.until < now - SKEW_S))


def unread(connection: Connection, model: str, now: float) -> list[str]:
    """Return the paths of replaced files that no reader can still need."""
    reader = (
        select(reader_leases.c.id)
        .where(reader_leases.c.model == window_files.c.model)
        .where(reader_leases.c.until >= now - SKEW_S)
        .where(reader_leases.c.began <= window_files.c.replaced_at + SKEW_S)
    )
    replaced = (window_files.c.model == model, window_files.c.replaced_at.is_not(None))
    query = select(window_files.c.path).where(*replaced, ~exists(reader))
    return list(connection.execute(query).scalars())
