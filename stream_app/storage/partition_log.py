"""Positions of input that belongs to no model's log, fenced by an epoch of each partition."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, select, update

from stream_app.errors import Fenced
from stream_app.ports import Clock, Halt
from stream_app.storage.database import insert_into, writing
from stream_app.storage.outbox import owe
from stream_app.storage.tables import partition_positions, topics
from stream_app.values import Partition

_TABLE = partition_positions


class SqlPartitionLog:
    """`ports.PartitionLog` over the tables."""

    def __init__(self, engine: Engine, *, learning_events: str, clock: Clock) -> None:
        """`learning_events` is the topic of what halts owe to Kafka."""
        self._engine = engine
        self._learning_events = learning_events
        self._clock = clock

    def take_over(self, partition: Partition, *, owner: str) -> tuple[int, int]:
        """Move the partition's epoch on and return (epoch, next offset to read)."""
        row = {"incarnation": partition.incarnation, "topic": partition.topic, "partition": partition.number}
        row |= dict.fromkeys(("next_offset", "dead_lettered", "forwarded"), 0)
        with writing(self._engine) as connection:
            insert = insert_into(connection.dialect.name, _TABLE).values({**row, "epoch": 1, "owner": owner[:200]})
            mine = {"epoch": _TABLE.c.epoch + 1, "owner": owner[:200]}
            query = insert.on_conflict_do_update(index_elements=list(_TABLE.primary_key), set_=mine)
            taken = connection.execute(query.returning(_TABLE.c.epoch, _TABLE.c.next_offset)).one()
        return taken.epoch, taken.next_offset

    def advance(self, partition: Partition, *, epoch: int, position: int, dead_lettered: int, forwarded: int) -> None:
        """Move the position after awaited delivery, and add to the counts; raises Fenced.

        A position never moves backwards.
        """
        with writing(self._engine) as connection:
            advance_position(
                connection,
                partition,
                epoch=epoch,
                position=position,
                dead_lettered=dead_lettered,
                forwarded=forwarded,
            )

    def halt(self, partition: Partition, *, epoch: int, halt: Halt, events: Mapping[str, tuple[str, bytes]]) -> None:
        """Store that nobody may read on, and owe `learning-events` these (type, value) by model; raises Fenced."""
        values = {
            "halted_share": halt.share,
            "halted_limit": halt.limit,
            "halted_offset": halt.offset,
            "halted_at": halt.at,
        }
        with writing(self._engine) as connection:
            _change(connection, partition, epoch, values)
            for model, (type_, value) in events.items():
                owe(connection, self._learning_events, model, type_, value, now=halt.at)

    def halted(self, partition: Partition) -> Halt | None:
        """Return why nobody may read on, None when somebody may."""
        with self._engine.connect() as connection:
            row = connection.execute(select(_TABLE).where(_is(partition), _TABLE.c.halted_at.is_not(None))).first()
        if row is None:
            return None
        return Halt(share=row.halted_share, limit=row.halted_limit, offset=row.halted_offset, at=row.halted_at)

    def resume(self, partition: Partition, *, epoch: int) -> None:
        """Let the partition be read on; raises Fenced."""
        values = dict.fromkeys(("halted_share", "halted_limit", "halted_offset", "halted_at"))
        with writing(self._engine) as connection:
            _change(connection, partition, epoch, values)

    def counts(self) -> Mapping[Partition, tuple[int, int]]:
        """Return (dead-lettered, forwarded) by partition."""
        with self._engine.connect() as connection:
            return {
                Partition(incarnation=row.incarnation, topic=row.topic, number=row.partition): (
                    row.dead_lettered,
                    row.forwarded,
                )
                for row in connection.execute(select(_TABLE))
            }

    def incarnation(self, topic: str) -> str | None:
        """Return the incarnation of the topic that was last read, None if it was never read."""
        query = select(topics.c.incarnation).where(topics.c.topic == topic)
        with self._engine.connect() as connection:
            return connection.execute(query.order_by(topics.c.last_read_at.desc()).limit(1)).scalar()

    def record_incarnation(self, topic: str, incarnation: str, *, partitions: int) -> int:
        """Store the incarnation now read; return the number of partitions at its first sight."""
        now = self._clock()
        row = {"topic": topic, "incarnation": incarnation, "partitions": partitions}
        with writing(self._engine) as connection:
            insert = insert_into(connection.dialect.name, topics).values(
                {**row, "first_seen_at": now, "last_read_at": now}
            )
            query = insert.on_conflict_do_update(
                index_elements=list(topics.primary_key), set_={"last_read_at": now}
            ).returning(topics.c.partitions)
            return int(connection.execute(query).scalar_one())


def advance_position(
    connection: Connection,
    partition: Partition,
    *,
    epoch: int,
    position: int,
    dead_lettered: int = 0,
    forwarded: int = 0,
) -> None:
    """Move a position in the transaction that deals with what lies below it; raises Fenced."""
    counts = {"dead_lettered": _TABLE.c.dead_lettered + dead_lettered, "forwarded": _TABLE.c.forwarded + forwarded}
    mine = and_(_is(partition), _TABLE.c.epoch == epoch, _TABLE.c.next_offset <= position)
    moved = connection.execute(update(_TABLE).where(mine).values(counts | {"next_offset": position}))
    if moved.rowcount == 0:
        raise Fenced(_refusal(connection, partition, epoch, position))


def _is(partition: Partition) -> ColumnElement[bool]:
    return and_(
        _TABLE.c.incarnation == partition.incarnation,
        _TABLE.c.topic == partition.topic,
        _TABLE.c.partition == partition.number,
    )


def _change(connection: Connection, partition: Partition, epoch: int, values: Mapping[str, Any]) -> None:
    mine = and_(_is(partition), _TABLE.c.epoch == epoch)
    if connection.execute(update(_TABLE).where(mine).values(values)).rowcount == 0:
        place = f"{partition.topic}/{partition.number}"
        raise Fenced(f"{place}: epoch {epoch} cannot halt or resume it: another one took it over")


def _refusal(connection: Connection, partition: Partition, epoch: int, position: int) -> str:
    row = connection.execute(select(_TABLE.c.epoch, _TABLE.c.next_offset).where(_is(partition))).first()
    found = "nobody took it over" if row is None else f"it is at epoch {row.epoch}, offset {row.next_offset}"
    return f"{partition.topic}/{partition.number}: epoch {epoch} cannot move to offset {position}: {found}"
