"""The spool: nothing that was appended is lost but with the machine, whoever dies when."""

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.errors import Outage
from stream_app.ports import Outgoing, Recorder
from stream_app.serving import spool as spool_module
from stream_app.serving.publishing import Courier, line
from stream_app.serving.spool import Spool

PLENTY = 1_000_000


Opener = Callable[..., Spool]
Wait = Callable[..., None]


@pytest.fixture
def spool_in() -> Iterator[Opener]:
    """Return what opens a spool that is closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda root, most_bytes=PLENTY: stack.enter_context(
            contextlib.closing(Spool(root, most_bytes=most_bytes))
        )


def read_all(spool: Spool, most_lines: int = 3) -> list[bytes]:
    lines: list[bytes] = []
    while (batch := spool.read(most_lines)) is not None:
        lines += batch.lines
        spool.advance(batch)
    return lines


def test_lines_come_out_as_they_went_in(tmp_path: Path, spool_in: Opener) -> None:
    spool = spool_in(tmp_path)
    lines = [b"%d" % i for i in range(10)]
    assert all(spool.append(part) for part in (lines[:4], lines[4:5], lines[5:]))
    assert read_all(spool) == lines
    assert (spool.read(1), spool.waiting_bytes) == (None, 0)


def test_what_was_read_and_not_advanced_comes_again(tmp_path: Path, spool_in: Opener) -> None:
    spool = spool_in(tmp_path)
    spool.append([b"a", b"b"])
    first = spool.read(1)
    assert first is not None
    assert spool.read(1) == first
    spool.advance(first)
    assert read_all(spool) == [b"b"]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=30))
def test_any_order_of_appends_and_reads_keeps_the_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), most_bytes=PLENTY)
    written: list[bytes] = []
    found: list[bytes] = []
    for appended, read in steps:
        new = [b"%d" % (len(written) + i) for i in range(appended)]
        assert spool.append(new)
        written += new
        for _ in range(read):
            batch = spool.read(2)
            if batch is not None:
                found += batch.lines
                spool.advance(batch)
    assert found + read_all(spool) == written
    spool.close()


def test_files_follow_each_other_and_go_when_they_are_delivered(
    tmp_path: Path, spool_in: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 10)
    spool = spool_in(tmp_path)
    for i in range(10):
        spool.append([b"%d" % i * 5])
    assert len(list(tmp_path.rglob("*.lines"))) == 5
    assert len(read_all(spool)) == 10
    assert [path.stat().st_size for path in tmp_path.rglob("*.lines")] == [0]
    spool.append([b"more"])
    assert read_all(spool) == [b"more"]


def test_beyond_its_bound_nothing_is_taken_until_there_is_room(tmp_path: Path, spool_in: Opener) -> None:
    spool = spool_in(tmp_path, 10)
    assert spool.append([b"12345"])
    assert not spool.append([b"12345"])
    assert spool.append([b"123"])
    assert read_all(spool) == [b"12345", b"123"]
    assert spool.append([b"12345"])


def test_a_disk_that_refuses_costs_the_line_and_not_the_next(
    tmp_path: Path, spool_in: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_in(tmp_path)
    spool.append([b"first"])

    def half(file: int, content: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
        write(file, content[:2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", half)
        assert not spool.append([b"second"])
    assert spool.append([b"third"])
    assert read_all(spool) == [b"first", b"third"]


def test_what_a_process_left_is_taken_over_once_it_is_dead(tmp_path: Path, spool_in: Opener) -> None:
    living = spool_in(tmp_path)
    living.append([b"living"])
    _kill_after(tmp_path, "spool.append([b'dead 1', b'dead 2'])")
    heir = spool_in(tmp_path)
    heir.append([b"own"])
    assert read_all(heir) == [b"dead 1", b"dead 2", b"own"]
    assert read_all(living) == [b"living"]
    living.close()
    heir.close()
    assert list(tmp_path.iterdir()) == []


def test_half_a_line_of_a_process_that_died_within_it_is_left_out(tmp_path: Path, spool_in: Opener) -> None:
    _kill_after(tmp_path, "spool.append([b'whole'])")
    (path,) = tmp_path.rglob("*.lines")
    with path.open("ab") as file:
        file.write(b"hal")
    assert read_all(spool_in(tmp_path)) == [b"whole"]


def test_what_waits_at_the_end_is_the_next_ones(tmp_path: Path, spool_in: Opener) -> None:
    first = spool_in(tmp_path)
    first.append([b"a", b"b"])
    batch = first.read(1)
    assert batch is not None
    first.advance(batch)
    first.close()
    # what was delivered from a file that is not done comes again: at least once
    assert read_all(spool_in(tmp_path)) == [b"a", b"b"]


def _kill_after(root: Path, statement: str) -> None:
    """Run a statement on a spool in a process that is killed right after it."""
    script = f"""
        import os, signal
        from pathlib import Path
        from stream_app.serving.spool import Spool
        spool = Spool(Path({str(root)!r}), most_bytes={PLENTY})
        {statement}
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=240)
    assert done.returncode == -9


class Broker:
    """Takes deliveries, or is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.taken: list[Outgoing] = []

    def __call__(self, messages: list[Outgoing]) -> None:
        if self.is_away:
            raise Outage("no broker")
        self.taken += messages


def test_a_courier_brings_what_waits_with_its_key(tmp_path: Path, spool_in: Opener, wait_until: Wait) -> None:
    broker, observe = Broker(), Recorder()
    spool = spool_in(tmp_path)
    spool.append([line("before", {"a": "b c"})])
    courier = Courier(spool, broker, topic="predictions", observe=observe)
    courier.start()
    courier.record([line("after", {"a": 1})])
    wait_until(lambda: len(broker.taken) == 2, what="the delivery")
    courier.close(5)
    assert [(one.topic, one.key, one.value) for one in broker.taken] == [
        ("predictions", b"before", b'{"a":"b c"}'),
        ("predictions", b"after", b'{"a":1}'),
    ]
    assert spool.waiting_bytes == 0


def test_a_broker_that_is_away_is_told_and_waited_for(tmp_path: Path, spool_in: Opener, wait_until: Wait) -> None:
    broker, observe = Broker(), Recorder()
    broker.is_away = True
    courier = Courier(spool_in(tmp_path), broker, topic="predictions", observe=observe)
    courier.start()
    courier.record([line("p", {})])
    wait_until(courier.unwell, what="word of the outage")
    broker.is_away = False
    wait_until(lambda: broker.taken and courier.unwell() is None, what="the delivery")
    courier.close(5)


def test_without_room_predictions_are_counted(tmp_path: Path, spool_in: Opener) -> None:
    observe = Recorder()
    courier = Courier(spool_in(tmp_path, 10), Broker(), topic="predictions", observe=observe)
    courier.record([b"p " + b"x" * 20, b"q"])
    assert observe.facts == [("predictions_unrecorded", 2, {})]
    assert "no room" in (courier.unwell() or "")
    courier.record([b"p"])
    assert courier.unwell() is None
