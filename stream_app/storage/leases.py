"""Who does a job that only one process may do; the time is an argument, the comparison is the database's."""

from sqlalchemy import Engine, delete, or_, update
from sqlalchemy.exc import IntegrityError

from stream_app.storage.tables import leases


class SqlLeases:
    """`ports.Leases` over the table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def acquire(self, name: str, *, holder: str, now: float, lease_s: float) -> bool:
        """Take or renew the lease; False while somebody else holds it."""
        return self._renew(name, holder, now, lease_s) or self._create(name, holder, now, lease_s)

    def release(self, name: str, *, holder: str) -> None:
        """Give it back early; nothing happens if it is somebody else's."""
        with self._engine.begin() as connection:
            connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))

    def _renew(self, name: str, holder: str, now: float, lease_s: float) -> bool:
        free = or_(leases.c.holder == holder, leases.c.until <= now)
        query = update(leases).where(leases.c.name == name, free).values(holder=holder, until=now + lease_s)
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount == 1

    def _create(self, name: str, holder: str, now: float, lease_s: float) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(leases.insert().values(name=name, holder=holder, until=now + lease_s))
        except IntegrityError:
            return False  # the primary key: somebody has it
        return True
