"""Messages owed to Kafka: written in the transaction that makes them true, sent later by the relay."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, Engine, RowMapping, Select, delete, func, select, text, update

from stream_app.messages import LABEL_JOINED
from stream_app.ports import OutboxMessage
from stream_app.storage.tables import EVENTS_UNSENT, outbox

#: Values of one IN: databases have limits.
_CHUNK: Final = 1_000
_COLUMNS = [outbox.c[name] for name in ("id", "model", "event_id", "type", "topic", "key", "value", "created_at")]


class SqlOutbox:
    """`ports.Outbox` over the table."""

    def __init__(self, engine: Engine, *, learning_events: str) -> None:
        """`learning_events` is the topic of noted events."""
        self._engine = engine
        self._learning_events = learning_events

    def unsent(self, *, limit: int = 1000) -> Sequence[OutboxMessage]:
        """Return what was not yet sent, oldest first, but joined labels behind everything else.

        There may be thousands of those a second, and after an outage a backlog: subscribers do not wait for it.
        """
        query = select(*_COLUMNS).order_by(outbox.c.id)
        events = self._read(query.where(text(EVENTS_UNSENT)).limit(limit))
        labels = query.where(outbox.c.sent_at.is_(None), outbox.c.type == LABEL_JOINED)
        return [*events, *self._read(labels.limit(limit - len(events)))]

    def mark_sent(self, ids: Sequence[int], *, now: float) -> None:
        """Note that these were acknowledged by the broker.

        Joined labels are deleted: there may be thousands a second, and they stand in `feedback` and in the log.
        """
        with self._engine.begin() as connection:
            for start in range(0, len(ids), _CHUNK):
                chunk = ids[start : start + _CHUNK]
                these = outbox.c.id.in_(chunk)
                gone = connection.execute(delete(outbox).where(these, outbox.c.type == LABEL_JOINED)).rowcount
                if gone < len(chunk):
                    connection.execute(update(outbox).where(these).values(sent_at=now))

    def pointers(self) -> Sequence[OutboxMessage]:
        """Return the current model-updated message of every model, to be asserted again by a new relay."""
        return self._read(select(*_COLUMNS).where(outbox.c.id.in_(_pointer_ids())).order_by(outbox.c.id))

    def note(self, model: str, type_: str, value: bytes, *, now: float) -> None:
        """Add an event for `learning-events` outside of an owner's transaction (retrain started, failed …)."""
        with self._engine.begin() as connection:
            owe(connection, self._learning_events, model, type_, value, now=now)

    def forget_sent(self, *, before: float) -> int:
        """Delete what was sent before that time, but never a model's current pointer; return how many."""
        query = delete(outbox).where(outbox.c.sent_at < before, outbox.c.id.not_in(_pointer_ids()))
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount

    def _read(self, query: Select[Any]) -> list[OutboxMessage]:
        with self._engine.connect() as connection:
            return [_message(row) for row in connection.execute(query).mappings()]


def owe(connection: Connection, topic: str, model: str, type_: str, value: bytes, *, now: float) -> None:
    """Add an event in the transaction that makes it true."""
    row = {
        "model": model,
        "event_id": f"{model}:{uuid4().hex}",
        "type": type_,
        "topic": topic,
        "key": model.encode(),
        "value": value,
        "created_at": now,
    }
    connection.execute(outbox.insert().values(row))


def _pointer_ids() -> Select[tuple[int]]:
    # The greatest promotion_seq, not the greatest id: that is what subscribers compare.
    newest = (
        select(outbox.c.model, func.max(outbox.c.promotion_seq).label("newest")).group_by(outbox.c.model).subquery()
    )
    return select(outbox.c.id).join(
        newest, (outbox.c.model == newest.c.model) & (outbox.c.promotion_seq == newest.c.newest)
    )


def _message(row: RowMapping) -> OutboxMessage:
    return OutboxMessage(**dict(row) | {"key": bytes(row["key"]), "value": bytes(row["value"])})
