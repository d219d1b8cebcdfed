"""The fold: same windows, same bits; a poisoned window leaves no trace in the learner."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import linear_model, preprocessing

from stream_app.core.fold import ONLINE, Fold, fold_digest
from stream_app.errors import Corrupt
from stream_app.model_settings import ModelSettings
from stream_app.values import RowKind
from tests.unit.folding import SCHEMA, remembered, rows_of, stream, window, windows

MODEL = ModelSettings.model_validate({"task": "binary", "target": "y"})


def fresh(**online: object) -> Fold:
    return Fold("m", ModelSettings.model_validate({**MODEL.model_dump(), "online": online}), SCHEMA)


def test_outputs_and_state_are_those_of_ten_lines_of_river() -> None:
    numbers, labels = stream(300)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    expected = []
    for row, label in zip(numbers.tolist(), labels.tolist(), strict=True):
        x = dict(zip("abc", row, strict=True))
        expected.append(model.predict_proba_one(x)[True])
        model.learn_one(x, bool(label))
    fold = fresh()
    outputs = []
    for each in windows(numbers, labels, [1, 7, 100]):
        fold.apply(each)
        outputs += fold.outputs.tolist()
    assert outputs == expected
    probes = [dict(zip("abc", row, strict=True)) for row in fold.probe.numeric.tolist()]
    assert fold.predict(fold.probe).tolist() == [model.predict_proba_one(x)[True] for x in probes]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 40), max_size=6), st.integers(0, 5))
def test_a_restored_state_goes_on_bit_for_bit(sizes: list[int], stop: int) -> None:
    numbers, labels = stream(150)
    cut = list(windows(numbers, labels, sizes))
    whole, first = fresh(), fresh()
    reports = [whole.apply(each) for each in cut]
    for each in cut[:stop]:
        first.apply(each)
    second = fresh()
    second.restore(first.state())
    assert [second.apply(each) for each in cut[stop:]] == reports[stop:]
    assert second.probe_hash() == whole.probe_hash()


def test_a_window_that_breaks_the_learner_is_quarantined_and_leaves_no_trace() -> None:
    numbers, labels = stream(60)
    clean, hit = fresh(), fresh()
    clean.apply(window(1, rows_of(numbers[:20], labels[:20])))
    hit.apply(window(1, rows_of(numbers[:20], labels[:20])))
    poison = rows_of(np.full((3, 3), np.inf), np.ones(3), offset=20)
    report = hit.apply(window(2, poison))
    clean.apply(window(2, None))
    assert report.quarantined is not None
    assert hit.probe_hash() == clean.probe_hash()
    assert hit.learned == clean.learned
    after = rows_of(numbers[20:], labels[20:], offset=23)
    assert hit.apply(window(3, after)).metrics["prequential"] == clean.apply(window(3, after)).metrics["prequential"]


def test_a_window_at_which_the_learner_raises_is_quarantined_too(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, labels = stream(20)
    fold = fresh(adapter="river")
    fold.apply(window(1, rows_of(numbers[:10], labels[:10])))
    before = fold.probe_hash()
    monkeypatch.setattr(type(fold.online), "advance", lambda *_: 1 / 0)
    report = fold.apply(window(2, rows_of(numbers[10:], labels[10:], offset=10)))
    assert report.quarantined == "the online learner raised ZeroDivisionError: division by zero"
    assert fold.probe_hash() == before


def test_late_rows_and_corrections_are_not_learned_online() -> None:
    numbers, labels = stream(10)
    kinds = [RowKind.RECORD, RowKind.LATE, RowKind.CORRECTION, RowKind.ERASED] + [RowKind.RECORD] * 6
    mixed, plain = fresh(), fresh()
    mixed.apply(window(1, rows_of(numbers, labels, kinds=kinds)))
    learned = [i for i, kind in enumerate(kinds) if kind is RowKind.RECORD]
    plain.apply(window(1, rows_of(numbers[learned], labels[learned])))
    assert mixed.learned == 7
    assert mixed.probe_hash() == plain.probe_hash()


def test_a_decision_holds_after_the_last_row_of_its_window() -> None:
    numbers, labels = stream(20)
    fold = fresh()
    report = fold.apply(window(1, rows_of(numbers, labels), control=[("promote", {"version": ONLINE})]))
    assert fold.champion == ONLINE
    assert fold.contenders == ()
    fold.apply(window(2, None, control=[("promote", {"version": 3})]))
    assert fold.contenders == (3,)
    assert report.metrics["champion"] == ONLINE


def test_a_gap_in_the_log_is_never_folded_over() -> None:
    with pytest.raises(Corrupt, match="window 2 cannot follow window 0"):
        fresh().apply(window(2, None))


def test_ids_are_remembered_even_of_rows_that_were_not_learned() -> None:
    numbers, labels = stream(2)
    fold = fresh()
    fold.apply(window(1, rows_of(numbers, labels, kinds=[RowKind.RECORD, RowKind.LATE])))
    assert remembered(fold.memory)["e0"] == labels[0]
    assert remembered(fold.memory)["e1"] == labels[1]


def test_previous_labels_are_those_known_at_prediction_time() -> None:
    numbers, labels = stream(40)
    fold = fresh(previous_labels=2, label_delay=3)
    for each in windows(numbers, labels, [11, 2]):
        fold.apply(each)
    # the next record is number 40: with a delay of 3 the newest known label is that of record 36
    assert fold.known_labels == [labels[36], labels[35]]
    assert fold.predict(fold.probe).shape == (32,)


def test_what_shapes_the_state_is_in_the_digest_and_nothing_else() -> None:
    base = fold_digest(MODEL, SCHEMA)
    assert fold_digest(MODEL.model_copy(update={"dedupe_horizon": 5}), SCHEMA) == base
    assert fold_digest(MODEL.model_copy(update={"seed": 2}), SCHEMA) != base
