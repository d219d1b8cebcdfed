"""Drift is found where River's ADWIN finds it, however the stream is cut and whatever process goes on."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift

from stream_app.core.drift import Change, DriftWatch, ErrorDrift
from stream_app.model_settings import DriftSettings
from stream_app.values import Features, Floats, Partition, RowKind, Rows
from tests.unit.river_oracle import numbers, numeric_shape

DELTA = 0.002


def shifting(seed: int, n: int = 6_000) -> Floats:
    """Errors whose rate changes every 1,500 rows."""
    rates = np.repeat([0.1, 0.5, 0.2, 0.8], n // 4)
    return (np.random.default_rng(seed).random(n) < rates).astype(np.float64)


def found_by_river(values: Floats) -> list[int]:
    detector = drift.ADWIN(delta=DELTA)
    found = []
    for position, v in enumerate(values.tolist()):
        detector.update(v)
        if detector.drift_detected:
            found.append(position)
    return found


def in_windows(detector: ErrorDrift, values: Floats, edges: list[int]) -> list[Change]:
    changes = []
    for a, b in pairwise([0, *edges, len(values)]):
        found = detector.update(values[a:b])
        changes += [Change(position=a + c.position, before=c.before, after=c.after) for c in found]
    return changes


@pytest.mark.parametrize(
    "values", [shifting(1), shifting(2), shifting(3) * 40 + np.linspace(0, 1, 6_000)], ids=["rates", "again", "sizes"]
)
def test_changes_are_rivers(values: Floats) -> None:
    changes = ErrorDrift(DELTA).update(values)
    assert [c.position for c in changes] == found_by_river(values)
    assert len(changes) >= 3


def test_the_means_are_those_of_what_was_dropped_and_what_was_kept() -> None:
    values, start = shifting(1), 0
    detector = drift.ADWIN(delta=DELTA)
    for change in ErrorDrift(DELTA).update(values):
        for v in values[start : change.position + 1].tolist():
            detector.update(v)
        end = change.position + 1
        kept = end - int(detector.width)
        assert change.before == pytest.approx(values[start:kept].mean())
        assert change.after == pytest.approx(values[kept:end].mean())
        assert abs(change.after - change.before) > 0.05
        start = end


def test_a_steady_stream_shows_nothing() -> None:
    assert ErrorDrift(DELTA).update((np.random.default_rng(3).random(20_000) < 0.3).astype(np.float64)) == []


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6_000), max_size=6), st.integers(1, 4))
def test_no_cut_changes_what_is_found(cuts: list[int], seed: int) -> None:
    values = shifting(seed) * 1.1
    assert in_windows(ErrorDrift(DELTA), values, sorted(cuts)) == ErrorDrift(DELTA).update(values)


@pytest.mark.parametrize("cut", [1, 1_000, 1_516, 3_333, 5_999])
def test_a_pickled_detector_goes_on(cut: int) -> None:
    values = shifting(4)
    detector = ErrorDrift(DELTA)
    before = detector.update(values[:cut])
    after = pickle.loads(pickle.dumps(detector)).update(values[cut:])
    moved = [Change(position=cut + c.position, before=c.before, after=c.after) for c in after]
    assert before + moved == ErrorDrift(DELTA).update(values)


def test_rows_without_output_are_left_out_and_positions_stay() -> None:
    values = shifting(1)
    holes = np.full(2 * len(values), np.nan)
    holes[1::2] = values
    wanted = [(2 * c.position + 1, c.before, c.after) for c in ErrorDrift(DELTA).update(values)]
    assert [(c.position, c.before, c.after) for c in ErrorDrift(DELTA).update(holes)] == wanted


def rows(features: Features, labels: Floats) -> Rows:
    n = len(labels)
    zeros = np.zeros(n, dtype=np.int64)
    return Rows(
        partition=Partition(incarnation="i", topic="t", number=0),
        offsets=zeros,
        indexes=zeros,
        occurred_at_ms=zeros,
        kinds=np.full(n, RowKind.RECORD, dtype=np.int8),
        features=features,
        labels=labels,
    )


def test_a_watch_names_where_and_in_what() -> None:
    """The outputs never change; the labels flip, and one of the two features moves with them."""
    labels = np.repeat([1.0, 0.0], 2_000)
    matrix = np.column_stack([labels + np.sin(np.arange(4_000)), np.cos(np.arange(4_000))])
    watch = DriftWatch(numeric_shape(2), DriftSettings(features=True))
    drifts = list(watch.update(7, np.full(4_000, 0.9), rows(numbers(matrix), labels)))
    assert {(d.seq, d.feature, d.detector) for d in drifts} == {(7, "error", "ADWIN"), (7, "x0", "ADWIN")}
    assert all(2_000 <= d.pos < 2_100 for d in drifts)


def test_features_are_watched_only_if_asked_for() -> None:
    labels = np.repeat([1.0, 0.0], 2_000)
    watch = DriftWatch(numeric_shape(1), DriftSettings())
    drifts = list(watch.update(1, labels, rows(numbers(labels[:, None]), labels)))
    assert drifts == []
