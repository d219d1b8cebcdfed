"""Who owns a model: the epoch that each take-over moves on, and that every write of an owner compares."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select, update

from stream_app.errors import Fenced, NotFound
from stream_app.storage.database import Insert, insert_into
from stream_app.storage.tables import models, origin_marks, positions
from stream_app.values import Partition, Tenure


def take_over(
    connection: Connection, model: str, *, owner: str, schema_json: str, start: Mapping[Partition, int], now: float
) -> Tenure:
    """Move the epoch on before anything is read, and return where the log stands; create the model if it is new."""
    row = _next_epoch(connection, model, owner)
    if row is None:
        _create(connection, model, owner=owner, schema_json=schema_json, start=start, now=now)
        row = _next_epoch(connection, model, owner)
    if row is None:
        raise NotFound(f"model {model!r} was created and is gone")
    return Tenure(
        model=model,
        epoch=row["epoch"],
        seq=row["seq"],
        effects_seq=row["effects_seq"],
        schema_json=row["schema_json"],
        positions=read_positions(connection, model),
        origin_marks=_read_marks(connection, model),
        champion=row["champion"],
        promotion_seq=row["promotion_seq"],
    )


def move_on(
    connection: Connection, model: str, epoch: int, values: Mapping[str, Any], *also: ColumnElement[bool]
) -> RowMapping | None:
    """Change the model's row if `epoch` owns it and `also` holds; return the row as it is then, else None.

    Raises Fenced if another epoch exists. Until the transaction ends no other owner's can pass this point.
    """
    query = update(models).where(models.c.name == model, models.c.epoch == epoch, *also).values(values)
    row = connection.execute(query.returning(models)).mappings().first()
    if row is None:
        check_epoch(connection, model, epoch)
    return row


def hold(connection: Connection, model: str, epoch: int) -> None:
    """Keep the model's row locked, unchanged, until the transaction ends; raises Fenced."""
    move_on(connection, model, epoch, {"epoch": models.c.epoch})


def check_epoch(connection: Connection, model: str, epoch: int) -> None:
    """Raise Fenced if `epoch` does not own the model."""
    found = connection.execute(select(models.c.epoch).where(models.c.name == model)).scalar()
    if found != epoch:
        raise Fenced(f"{model}: epoch {epoch} lost the model, its epoch is {found}")


def schema_of(connection: Connection, model: str) -> str:
    """Return the schema's JSON as frozen at the model's creation; raises NotFound."""
    found: str | None = connection.execute(select(models.c.schema_json).where(models.c.name == model)).scalar()
    if found is None:
        raise NotFound(f"there is no model {model!r}: no worker has taken it over yet")
    return found


def read_positions(connection: Connection, model: str) -> dict[Partition, int]:
    """Return the next offset to read of each partition that the model has read."""
    rows = connection.execute(select(positions).where(positions.c.model == model))
    return {Partition(incarnation=r.incarnation, topic=r.topic, number=r.partition): r.next_offset for r in rows}


def move_positions(connection: Connection, model: str, moved: Mapping[Partition, int]) -> None:
    """Store the next offsets to read; a position never moves backwards."""
    rows = [
        {
            "model": model,
            "incarnation": partition.incarnation,
            "topic": partition.topic,
            "partition": partition.number,
            "next_offset": offset,
        }
        for partition, offset in moved.items()
    ]
    if rows:
        connection.execute(_position_upsert(connection.dialect.name), rows)


def move_marks(connection: Connection, model: str, marks: Mapping[str, tuple[int, int]]) -> None:
    """Store the highest origins taken in; a mark never moves backwards."""
    rows = [
        {"model": model, "origin": origin, "offset": offset, "index": index}
        for origin, (offset, index) in marks.items()
    ]
    if rows:
        connection.execute(_mark_upsert(connection.dialect.name), rows)


# Built once: on the hot path SQLAlchemy takes longer to build a statement than SQLite to execute it.
@cache
def _position_upsert(dialect: str) -> Insert:
    insert = insert_into(dialect, positions)
    new = insert.excluded.next_offset
    return insert.on_conflict_do_update(
        index_elements=list(positions.primary_key), set_={"next_offset": new}, where=new > positions.c.next_offset
    )


@cache
def _mark_upsert(dialect: str) -> Insert:
    insert = insert_into(dialect, origin_marks)
    new = insert.excluded
    later = (new.offset > origin_marks.c.offset) | and_(
        new.offset == origin_marks.c.offset, new.index > origin_marks.c.index
    )
    return insert.on_conflict_do_update(
        index_elements=list(origin_marks.primary_key), set_={"offset": new.offset, "index": new.index}, where=later
    )


def _read_marks(connection: Connection, model: str) -> dict[str, tuple[int, int]]:
    rows = connection.execute(select(origin_marks).where(origin_marks.c.model == model)).mappings()
    return {row["origin"]: (row["offset"], row["index"]) for row in rows}


def _next_epoch(connection: Connection, model: str, owner: str) -> RowMapping | None:
    query = update(models).where(models.c.name == model).values(epoch=models.c.epoch + 1, owner=owner[:200])
    return connection.execute(query.returning(models)).mappings().first()


def _create(
    connection: Connection, model: str, *, owner: str, schema_json: str, start: Mapping[Partition, int], now: float
) -> None:
    row = dict.fromkeys(("epoch", "seq", "effects_seq", "promotion_seq", "champion"), 0)
    insert = insert_into(connection.dialect.name, models).values(
        row | {"name": model, "next_version": 1, "owner": owner[:200], "schema_json": schema_json, "created_at": now}
    )
    # Two first owners: one inserts, the other waits for it and then takes over what it made.
    if connection.execute(insert.on_conflict_do_nothing().returning(models.c.name)).first() is not None:
        move_positions(connection, model, start)
