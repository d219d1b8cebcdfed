"""What people turned on or off, for all processes and over restarts."""

from sqlalchemy import Engine, select

from stream_app.storage.database import insert_into
from stream_app.storage.serving_tables import switches


class SqlSwitches:
    """`job_ports.Switches` over the table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def is_on(self, name: str) -> bool:
        """Return how the switch was left; one that nobody touched is on."""
        query = select(switches.c.is_on).where(switches.c.name == name)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar() != 0

    def turn(self, name: str, *, on: bool, by: str, now: float) -> None:
        """Turn it; turning it again the same way only changes who did it last."""
        state = {"is_on": int(on), "changed_by": by[:200], "changed_at": now}
        with self._engine.begin() as connection:
            insert = insert_into(connection.dialect.name, switches).values(name=name, **state)
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=state))
