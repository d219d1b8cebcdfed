"""Positions of input that belongs to no model, and the incarnations of topics."""

from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from stream_app.errors import Fenced
from stream_app.ports import Halt
from stream_app.storage.database import open_database
from stream_app.storage.migrations.versions import r0003_serving
from stream_app.storage.outbox import SqlOutbox
from stream_app.storage.partition_log import SqlPartitionLog
from stream_app.values import Partition

PLACE = Partition(incarnation="i1", topic="raw", number=3)

HALT = Halt(share=0.8, limit=0.5, offset=7, at=12.5)


class Clock:
    """Time that passes by one at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def log(engine: Engine) -> SqlPartitionLog:
    return SqlPartitionLog(engine, learning_events="learning-events", clock=Clock())


def test_positions_outlive_their_owner(log: SqlPartitionLog) -> None:
    assert log.take_over(PLACE, owner="a") == (1, 0)
    log.advance(PLACE, epoch=1, position=10, dead_lettered=2, forwarded=8)
    log.advance(PLACE, epoch=1, position=15, dead_lettered=0, forwarded=5)
    assert log.take_over(PLACE, owner="b") == (2, 15)
    assert log.counts() == {PLACE: (2, 13)}


def test_partitions_do_not_share_anything(log: SqlPartitionLog) -> None:
    other = Partition(incarnation="i2", topic="raw", number=3)
    log.take_over(PLACE, owner="a")
    assert log.take_over(other, owner="a") == (1, 0)
    log.advance(other, epoch=1, position=4, dead_lettered=1, forwarded=0)
    assert log.counts() == {PLACE: (0, 0), other: (1, 0)}


def test_an_owner_that_lost_the_partition_moves_nothing(log: SqlPartitionLog) -> None:
    log.take_over(PLACE, owner="a")
    log.take_over(PLACE, owner="b")
    with pytest.raises(Fenced, match=r"raw/3: epoch 1 .* it is at epoch 2, offset 0"):
        log.advance(PLACE, epoch=1, position=10, dead_lettered=1, forwarded=0)
    assert log.counts() == {PLACE: (0, 0)}


def test_nobody_moves_what_was_not_taken_over(log: SqlPartitionLog) -> None:
    with pytest.raises(Fenced, match="nobody took it over"):
        log.advance(PLACE, epoch=1, position=1, dead_lettered=0, forwarded=0)


def test_a_position_never_moves_backwards(log: SqlPartitionLog) -> None:
    log.take_over(PLACE, owner="a")
    log.advance(PLACE, epoch=1, position=10, dead_lettered=0, forwarded=0)
    with pytest.raises(Fenced, match="offset 10"):
        log.advance(PLACE, epoch=1, position=9, dead_lettered=0, forwarded=0)
    assert log.take_over(PLACE, owner="a") == (2, 10)


def test_a_halt_outlives_its_owner_until_it_is_resumed(log: SqlPartitionLog) -> None:
    log.take_over(PLACE, owner="a")
    assert log.halted(PLACE) is None
    log.halt(PLACE, epoch=1, halt=HALT, events={})
    log.take_over(PLACE, owner="b")
    assert log.halted(PLACE) == HALT
    assert log.halted(Partition(incarnation="i2", topic="raw", number=3)) is None
    log.resume(PLACE, epoch=2)
    assert log.halted(PLACE) is None


def test_a_halt_owes_its_events_and_who_lost_the_partition_neither_halts_nor_resumes(
    log: SqlPartitionLog, engine: Engine
) -> None:
    outbox = SqlOutbox(engine, learning_events="learning-events")
    log.take_over(PLACE, owner="a")
    log.take_over(PLACE, owner="b")
    with pytest.raises(Fenced, match="raw/3: epoch 1"):
        log.halt(PLACE, epoch=1, halt=HALT, events={"m": ("t", b"{}")})
    assert (log.halted(PLACE), outbox.unsent()) == (None, [])
    log.halt(PLACE, epoch=2, halt=HALT, events={"m": ("t", b"{}"), "n": ("t", b"[]")})
    with pytest.raises(Fenced, match="raw/3: epoch 1"):
        log.resume(PLACE, epoch=1)
    assert log.halted(PLACE) == HALT
    owed = [(m.model, m.type, m.topic, m.key, m.value, m.created_at) for m in outbox.unsent()]
    assert owed == [
        ("m", "t", "learning-events", b"m", b"{}", 12.5),
        ("n", "t", "learning-events", b"n", b"[]", 12.5),
    ]


def _back_to_the_first_release(connection: Connection) -> None:
    """Take away what the migrations after the first have added."""
    for table in r0003_serving.metadata.sorted_tables:
        connection.execute(text(f"DROP TABLE {table.name}"))
    connection.execute(text("DROP INDEX outbox_unsent_events"))
    connection.execute(text("ALTER TABLE jobs DROP COLUMN wait_for"))
    for name in ("share", "limit", "offset", "at"):
        connection.execute(text(f"ALTER TABLE partition_positions DROP COLUMN halted_{name}"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))


def test_positions_stored_before_there_were_halts_are_kept(
    log: SqlPartitionLog, engine: Engine, tmp_path: Path
) -> None:
    log.take_over(PLACE, owner="a")
    log.advance(PLACE, epoch=1, position=10, dead_lettered=2, forwarded=8)
    with engine.begin() as connection:
        _back_to_the_first_release(connection)
    open_database(engine.url.render_as_string(hide_password=False), tmp_path).dispose()
    assert log.halted(PLACE) is None
    assert log.take_over(PLACE, owner="b") == (2, 10)


def test_the_incarnation_last_read_is_known(log: SqlPartitionLog) -> None:
    assert log.incarnation("raw") is None
    assert log.record_incarnation("raw", "i1", partitions=4) == 4
    assert log.record_incarnation("raw", "i2", partitions=6) == 6
    assert log.incarnation("raw") == "i2"
    assert log.record_incarnation("raw", "i1", partitions=4) == 4
    assert log.incarnation("raw") == "i1"
    assert log.incarnation("other") is None


def test_the_number_of_partitions_is_that_of_the_first_sight(log: SqlPartitionLog) -> None:
    log.record_incarnation("raw", "i1", partitions=4)
    assert log.record_incarnation("raw", "i1", partitions=8) == 4
