"""What is fetched becomes columns: bounded, in order, and nothing of it twice."""

import asyncio
import gc
import weakref
from dataclasses import dataclass

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from stream_app.stream.fetching import RECORD_BYTES, Backlog, Stretch, unpack

PLACE = TopicPartition("runs", 0)
ALL = {"most_records": 1_000_000, "most_bytes": 1_000_000_000}


@dataclass
class State:
    """aiokafka's bookkeeping of one partition, as far as a fetch result asks."""

    position: int = 0
    paused: bool = False

    def consumed_to(self, position: int) -> None:
        self.position = position


@dataclass
class Assignment:
    state: State
    active: bool = True

    def state_value(self, _: TopicPartition) -> State:
        return self.state


def _fetched(values: list[bytes | None], *, first: int = 0) -> tuple[FetchResult, State]:
    return _result(_batch(values), first)


def _batch(values: list[bytes | None], key: bytes = b"key") -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=100_000_000,
    )
    for offset, value in enumerate(values):
        builder.append(offset, 1_000 + offset, key, value, [("h", b"1")])
    return bytes(builder.build())


def _result(content: bytes, first: int = 0) -> tuple[FetchResult, State]:
    records = PartitionRecords(PLACE, MemoryRecords(content), None, first, None, None, True, 1)
    state = State(first)
    result = FetchResult(PLACE, assignment=Assignment(state), partition_records=records, backoff=0)
    return result, state


def _all(result: FetchResult, *, most_records: int, most_bytes: int) -> list[Stretch]:
    stretches = []
    while result.has_more():
        stretch = unpack(result, most_records=most_records, most_bytes=most_bytes)
        if stretch is not None:
            stretches.append(stretch)
    return stretches


def test_records_become_columns() -> None:
    result, state = _fetched([b"a", None, b"c"])
    assert unpack(result, **ALL) == Stretch(
        offsets=[0, 1, 2],
        keys=[b"key"] * 3,
        values=[b"a", None, b"c"],
        headers=[[("h", b"1")]] * 3,
        timestamps_ms=[1_000, 1_001, 1_002],
        weight=3 * RECORD_BYTES + 2,
    )
    assert state.position == 3
    assert not result.has_more()


@given(
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=400),
    most_records=st.integers(1, 300),
    most_bytes=st.integers(1, 200_000),
)
def test_however_it_is_cut_nothing_is_lost_or_repeated(sizes: list[int], most_records: int, most_bytes: int) -> None:
    result, state = _fetched([b"v" * size for size in sizes])
    stretches = _all(result, most_records=most_records, most_bytes=most_bytes)
    assert [offset for stretch in stretches for offset in stretch.offsets] == list(range(len(sizes)))
    assert [len(value or b"") for stretch in stretches for value in stretch.values] == sizes
    assert all(len(stretch.offsets) <= most_records for stretch in stretches)
    # the weight is looked at every hundred records
    assert all(stretch.weight < most_bytes + 100 * (3_000 + RECORD_BYTES) for stretch in stretches)
    assert state.position == len(sizes)


def test_what_lies_before_the_position_is_left_out() -> None:
    result, _ = _fetched([b"0", b"1", b"2"], first=1)
    stretch = unpack(result, **ALL)
    assert stretch is not None
    assert stretch.offsets == [1, 2]


def test_a_seek_outdates_what_was_fetched_before_it() -> None:
    result, state = _fetched([b"0", b"1", b"2"])
    state.position = 2
    assert unpack(result, **ALL) is None
    assert not result.has_more()
    assert state.position == 2


async def test_the_backlog_makes_the_fetch_wait() -> None:
    backlog = Backlog(limit=100)
    first, second = object(), object()
    backlog.add(first, 60)
    assert await backlog.has_room(0.01)
    backlog.add(second, 60)
    assert not await backlog.has_room(0.01)
    waiting = asyncio.create_task(backlog.has_room(10))
    await asyncio.sleep(0)
    backlog.remove(first)
    assert await waiting


@pytest.mark.parametrize("times", [1, 2])
async def test_a_run_counts_out_of_the_backlog_once(times: int) -> None:
    backlog = Backlog(limit=100)
    item, other = object(), object()
    backlog.add(item, 100)
    backlog.add(other, 100)
    for _ in range(times):
        backlog.remove(item)
    assert not await backlog.has_room(0.01)
    backlog.clear()
    assert await backlog.has_room(0.01)


def test_what_was_unpacked_is_let_go_at_once() -> None:
    result, _ = _fetched([b"value"] * 300)
    fetched = weakref.ref(result._partition_records)
    gc.disable()  # a cycle would hold the whole fetch until the next collection, which may be many fetches later
    try:
        assert sum(len(stretch.offsets) for stretch in _all(result, most_records=100, most_bytes=10**6)) == 300
        assert fetched() is None
    finally:
        gc.enable()


ATTRIBUTES = 22
COMMIT = b"\0\0\0\1"
TRANSACTIONAL, CONTROL = 0x10, 0x20


def _with(attributes: int, batch: bytes) -> bytes:
    """Return the batch with other attributes; its checksum, which covers them, is wrong then."""
    changed = bytearray(batch)
    changed[ATTRIBUTES] |= attributes
    return bytes(changed)


def test_a_mark_of_a_commit_is_passed_over_whatever_its_checksum_says() -> None:
    """Those of the embedded broker are wrong."""
    result, state = _result(_with(TRANSACTIONAL | CONTROL, _batch([b"mark"], COMMIT)))
    assert unpack(result, **ALL) is None
    assert state.position == 1


@pytest.mark.parametrize(("attributes", "values"), [(TRANSACTIONAL, [b"a"]), (TRANSACTIONAL | CONTROL, [b"a", b"b"])])
def test_records_must_match_their_checksum(attributes: int, values: list[bytes | None]) -> None:
    result, _ = _result(_with(attributes, _batch(values)))
    with pytest.raises(CorruptRecordException):
        unpack(result, **ALL)
