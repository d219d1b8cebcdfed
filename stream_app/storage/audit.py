"""Who changed what, when: rows that are only ever added."""

from collections.abc import Sequence

import orjson
from sqlalchemy import Engine, select

from stream_app.serving_ports import Deed
from stream_app.storage.serving_tables import audit_log

_LONGEST_ACTOR = 200
_LONGEST_ACTION = 60


class SqlAudit:
    """`serving_ports.Audit` over the table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(self, deed: Deed) -> None:
        """Add it."""
        query = audit_log.insert().values(
            at=deed.at,
            actor=deed.actor[:_LONGEST_ACTOR],
            action=deed.action[:_LONGEST_ACTION],
            model=deed.model,
            details=orjson.dumps(dict(deed.details)).decode(),
        )
        with self._engine.begin() as connection:
            connection.execute(query)

    def newest(self, *, limit: int = 100) -> Sequence[Deed]:
        """Return the newest deeds, newest first."""
        query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [
                Deed(at=row.at, actor=row.actor, action=row.action, model=row.model, details=orjson.loads(row.details))
                for row in connection.execute(query)
            ]
