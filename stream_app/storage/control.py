"""Requests that wait for a model's owner; the answer is part of the commit that carries the decision."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, select, update

from stream_app.errors import Conflict
from stream_app.ports import Clock
from stream_app.storage.ownership import schema_of
from stream_app.storage.tables import control_requests
from stream_app.values import ControlEntry, WindowHeader


class SqlControlRequests:
    """`ports.ControlRequests` over the table."""

    def __init__(self, engine: Engine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def ask(self, model: str, kind: str, body: Mapping[str, Any], *, by: str) -> int:
        """Store a request and return its id; raises NotFound for an unknown model."""
        query = control_requests.insert().values(
            model=model,
            kind=kind,
            body=orjson.dumps(dict(body)).decode(),
            requested_by=by[:200],
            requested_at=self._clock(),
        )
        with self._engine.begin() as connection:
            schema_of(connection, model)
            return int(connection.execute(query.returning(control_requests.c.id)).scalar_one())

    def waiting(self, model: str) -> Sequence[tuple[int, str, Mapping[str, Any]]]:
        """Return (id, kind, body) of unanswered requests, oldest first."""
        columns = (control_requests.c.id, control_requests.c.kind, control_requests.c.body)
        unanswered = (control_requests.c.model == model, control_requests.c.answered_seq.is_(None))
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).where(*unanswered).order_by(control_requests.c.id))
            return [(row.id, row.kind, orjson.loads(row.body)) for row in rows]

    def answer(self, request_id: int) -> ControlEntry | None:
        """Return how a request was answered, None while it waits (or if there is no such request)."""
        with self._engine.connect() as connection:
            query = select(control_requests).where(control_requests.c.id == request_id)
            row = connection.execute(query).mappings().first()
        if row is None or row["answered_seq"] is None:
            return None
        return ControlEntry(
            request_id=request_id,
            kind=row["kind"],
            body=orjson.loads(row["body"]),
            accepted=bool(row["accepted"]),
            reason=row["reason"],
        )

    def answered_in(self, request_id: int) -> int | None:
        """Return the window that carries the answer to a request, None while it waits."""
        query = select(control_requests.c.answered_seq).where(control_requests.c.id == request_id)
        with self._engine.connect() as connection:
            found: int | None = connection.execute(query).scalar()
        return found


def answer_requests(connection: Connection, header: WindowHeader) -> None:
    """Store the answers that a window carries; raises Conflict for a request that does not wait for one."""
    for entry in header.control:
        waits = (
            control_requests.c.id == entry.request_id,
            control_requests.c.model == header.model,
            control_requests.c.answered_seq.is_(None),
        )
        answer = {"answered_seq": header.seq, "accepted": int(entry.accepted), "reason": entry.reason}
        if connection.execute(update(control_requests).where(*waits).values(answer)).rowcount == 0:
            raise Conflict(f"{header.model}: request {entry.request_id} does not wait for an answer")
