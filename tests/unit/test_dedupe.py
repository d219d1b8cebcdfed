"""Recognising repeats: the intake against a memory that forgets nothing it should know, and the sieve by itself."""

import pickle
from itertools import chain

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.core.dedupe import IdMemory, Intake, Sight
from stream_app.core.sieve import Sieve
from tests.unit.folding import remembered

HORIZON = 3

Rows = list[tuple[str | None, float]]

batches = st.lists(
    st.tuples(
        st.sampled_from(["", "1", "22", "ä€😀", "\0p", "5", "6", "7", "8"]) | st.none(), st.sampled_from([0.0, 1.0])
    ),
    max_size=4,
)
steps = st.lists(batches | st.sampled_from(["close", "fold", "restart"]), max_size=40)


class Reference:
    """What the intake must answer, by dictionaries alone."""

    def __init__(self) -> None:
        self.generations: tuple[Rows, Rows] = ([], [])
        self.open: Rows = []
        self.closed: list[Rows] = []

    def sort(self, rows: Rows) -> list[int]:
        young, old = self.generations
        known = {id_: label for id_, label in chain(old, young, *self.closed, self.open) if id_ is not None}
        sights = []
        for id_, label in rows:
            same = known.get(id_) == label if id_ is not None else False
            new = id_ is None or id_ not in known
            sights.append(int(Sight.NEW if new else Sight.DUPLICATE if same else Sight.CORRECTION))
            if id_ is not None:
                known[id_] = label
        self.open += rows
        return sights

    def fold(self) -> Rows:
        rows = self.closed.pop(0)
        young, old = self.generations
        young = young + rows
        full = sum(id_ is not None for id_, _ in young) >= HORIZON
        self.generations = ([], young) if full else (young, old)
        return rows

    def restart(self) -> None:
        self.open, self.closed = [], []


@given(steps)
@example([[("1", 0.0), ("2", 0.0), ("3", 0.0)], "close", "fold"] * 2 + [[("1", 0.0)]]).via("seen again in its old age")
def test_the_intake_answers_as_dictionaries_would(taken: list[Rows | str]) -> None:
    memory, reference = IdMemory(HORIZON), Reference()
    intake = Intake(memory)
    for step in taken:
        if step == "close":
            intake.close()
            reference.closed.append(reference.open)
            reference.open = []
        elif step == "fold" and reference.closed:
            ids, labels = _columns(reference.fold())
            memory.remember(ids, labels)
            intake.folded()
        elif step == "restart":
            memory = pickle.loads(pickle.dumps(memory))
            intake = Intake(memory)
            reference.restart()
        elif isinstance(step, list):
            assert intake.sort(*_columns(step)).tolist() == reference.sort(step)


def _columns(rows: Rows) -> tuple[list[str | None], np.ndarray]:
    return [id_ for id_, _ in rows], np.array([label for _, label in rows], dtype=np.float64)


def test_the_memory_keeps_at_least_its_horizon_and_at_most_twice() -> None:
    memory = IdMemory(10)
    for i in range(100):
        memory.remember([str(i), None], np.array([1.0, 0.0]))
        assert {str(j) for j in range(max(0, i - 9), i + 1)} <= remembered(memory).keys()
    assert len(remembered(memory)) <= 20


@given(st.lists(st.lists(st.text(max_size=3), max_size=200), max_size=20))
def test_a_sieve_never_lets_a_known_id_through(parts: list[list[str]]) -> None:
    sieve, known = Sieve(), set[str]()
    for part in parts:
        suspects = sieve.suspects(part)
        for id_, suspect in zip(part, suspects, strict=True):
            assert suspect or id_ not in known
            known.add(id_)


def test_a_sieve_that_has_grown_knows_what_it_knew_and_suspects_nobody_else() -> None:
    sieve = Sieve()
    ids = [f"event-{i}" for i in range(50_000)]
    assert not sieve.suspects(ids).any()
    assert sieve.suspects(ids).all()
    assert not sieve.suspects([f"other-{i}" for i in range(50_000)]).any()


def test_a_sieve_forgets_a_generation_when_it_turns_but_what_is_kept() -> None:
    sieve = Sieve()
    sieve.suspects(["a", "b"])
    sieve.turn([["b"]])
    sieve.turn([])
    assert sieve.suspects(["a", "b", "c"]).tolist() == [False, True, False]
