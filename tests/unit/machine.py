"""A state machine over any worker: deliveries, repeats, stops, other owners, and zombies that do not know it yet."""

from collections.abc import Sequence
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from stream_app.values import RowKind

#: A record that can never be learned.
BAD = {"a": "?", "b": 0, "y": 1}


class Worker(Protocol):
    """An owner of model `m`, as the machine handles it."""

    def start(self) -> int:
        """Take the model over and return the next offset to read."""

    def take(self, offset: int, records: Sequence[dict[str, Any]]) -> None:
        """Take in records that lie from this offset on; raises Fenced, now or later."""

    def drain(self) -> None:
        """Make everything durable; raises Fenced."""

    def settle(self) -> None:
        """Wait until what is carried has ended."""

    def stop(self) -> None:
        """End as a crash does, once what is carried has ended."""


class Evidence(Protocol):
    """What lasts, whoever works."""

    def rows(self) -> list[tuple[int, int]]:
        """Return (offset, kind) of the rows of the log, in its order."""

    def counts(self) -> dict[str, int]:
        """Return the sums of the windows' counts."""

    def dead(self) -> set[int]:
        """Return the offsets of the dead letters."""

    def check(self) -> None:
        """Assert that the stored metrics are those to which the log folds (I3, I4)."""


class Expectation:
    """What must become of a topic, by the rules of deduplication alone."""

    def __init__(self, topic: Sequence[dict[str, Any]]) -> None:
        self.rows: list[tuple[int, int]] = []
        self.dead: set[int] = set()
        self.duplicates = 0
        labels: dict[str, int] = {}
        for offset, record in enumerate(topic):
            self._expect(offset, record, labels)

    def _expect(self, offset: int, record: dict[str, Any], labels: dict[str, int]) -> None:
        if record["a"] == "?":
            self.dead.add(offset)
            return
        known = labels.get(record["event_id"])
        if known == record["y"]:
            self.duplicates += 1
            return
        labels[record["event_id"]] = record["y"]
        self.rows.append((offset, RowKind.RECORD if known is None else RowKind.CORRECTION))


class WorkerMachine(RuleBasedStateMachine):
    """Subclasses say what a worker is; the rules and invariants are the same."""

    def hire(self) -> Worker:
        """Return a worker that has not started."""
        raise NotImplementedError

    def evidence(self) -> Evidence:
        """Return what lasts."""
        raise NotImplementedError

    @initialize()
    def first_owner(self) -> None:
        self.topic: list[dict[str, Any]] = []
        self.zombies: list[tuple[Worker, int]] = []
        self.owner = self.hire()
        self.cursor = self.owner.start()

    @rule(ids=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1)), min_size=1, max_size=12), bad=st.booleans())
    def produce(self, ids: list[tuple[int, int]], bad: bool) -> None:
        """Few ids, so that many come twice, in any order, some with another label."""
        self.topic += [{"event_id": f"e{i}", "a": i / 8, "b": i % 5, "y": label} for i, label in ids]
        self.topic += [BAD] if bad else []

    @precondition(lambda self: self.cursor < len(self.topic))
    @rule(most=st.integers(1, 30))
    def deliver(self, most: int) -> None:
        self.owner.take(self.cursor, self.topic[self.cursor : self.cursor + most])
        self.cursor = min(self.cursor + most, len(self.topic))

    @precondition(lambda self: self.cursor > 0)
    @rule(back=st.integers(1, 40))
    def deliver_again(self, back: int) -> None:
        """What a consumer does that seeks back: offsets that were taken in come once more, then new ones."""
        start = max(0, self.cursor - back)
        self.owner.take(start, self.topic[start:])
        self.cursor = len(self.topic)

    @rule()
    def drain(self) -> None:
        self.owner.drain()

    @rule()
    def crash(self) -> None:
        self.owner.stop()
        self._succeed()

    @rule()
    def lose_the_model(self) -> None:
        """Another worker takes the model over; the one before does not know."""
        self.zombies.append((self.owner, self.cursor))
        self._succeed()

    def _succeed(self) -> None:
        self.owner = self.hire()
        self.cursor = self.owner.start()
        assert self.cursor <= len(self.topic)

    @precondition(lambda self: self.zombies)
    @rule()
    def zombie_writes(self) -> None:
        """I7: whatever it still does, nothing of it reaches the log."""
        zombie, cursor = self.zombies.pop()
        self.owner.settle()
        before = (self.evidence().rows(), self.evidence().counts())
        self.try_in_vain(zombie, cursor)
        assert (self.evidence().rows(), self.evidence().counts()) == before

    def try_in_vain(self, zombie: Worker, cursor: int) -> None:
        """Let the zombie take in the rest of the topic and drain; it must be fenced if it has anything to write."""
        raise NotImplementedError

    def teardown(self) -> None:
        """I1, I2, I4: in the end every record is in exactly one place, and the log folds to what is stored."""
        if not hasattr(self, "owner"):
            return
        if self.topic[self.cursor :]:
            self.owner.take(self.cursor, self.topic[self.cursor :])
        self.owner.drain()
        expected, evidence = Expectation(self.topic), self.evidence()
        assert evidence.rows() == expected.rows
        counts = evidence.counts()
        assert counts.get("duplicates", 0) == expected.duplicates
        assert counts.get("dead_lettered", 0) == len(expected.dead)
        assert evidence.dead() == expected.dead
        evidence.check()
        for worker in (self.owner, *(zombie for zombie, _ in self.zombies)):
            worker.stop()
