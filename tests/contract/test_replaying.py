"""Backtests over a real log: other features and bounds, and what no log has rows for."""

from pathlib import Path
from typing import Any

import pytest

from stream_app.bootstrap import Rooms
from stream_app.cli.rebuild import compare
from stream_app.errors import Misconfigured
from stream_app.exits import MISCONFIGURED, exit_code
from stream_app.settings import Settings
from stream_app.worker.replaying import Comparison, Exclusion, online_outputs
from tests.contract.working import PLACE, bench, records, run_of, settings_of

ROWS = 120


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    """Settings of a model that has learned a few windows."""
    chosen = settings_of(tmp_path)
    batch = [{**record, "source": "kiosk" if i % 4 == 0 else "web"} for i, record in enumerate(records(ROWS))]
    with bench(chosen) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(batch))
        await made.handler.drain()
    return chosen


def replay(settings: Settings, **model: Any) -> Comparison:  # noqa: ANN401 - any key of a model's section
    other = settings_of(settings.storage.root, **model)
    return compare(Rooms(settings), Rooms(other), "m", None)


def test_a_rebuild_without_changes_is_the_live_state_to_the_last_bit(settings: Settings) -> None:
    rooms = Rooms(settings)
    found = compare(rooms, rooms, "m", None)
    live = rooms.stores.log.metrics("m", newest=1)[0]
    assert found.probe_hash == found.probe_hash_before == live["probe_hash"]
    assert (found.rows, found.rows_before, found.rows_left_out, found.largest_difference) == (ROWS, ROWS, 0, 0.0)


def test_what_a_rebuild_excludes_is_counted(settings: Settings) -> None:
    rooms = Rooms(settings)
    found = compare(rooms, rooms, "m", Exclusion(source="kiosk"))
    assert (found.rows, found.rows_left_out) == (90, 30)


def test_a_backtest_may_drop_a_feature(settings: Settings) -> None:
    found = replay(settings, features={"b": {}})
    assert (found.rows, found.rows_before, found.rows_left_out) == (ROWS, ROWS, 0)
    before, now = found.metrics["accuracy"]
    assert before != now  # the label follows from the feature that was dropped


def test_the_order_of_the_features_is_not_that_of_the_columns(settings: Settings) -> None:
    found = replay(settings, features={"b": {}, "a": {}})
    before, now = found.metrics["accuracy"]
    assert before == now
    assert found.largest_difference < 1e-9


def test_rows_outside_of_tighter_bounds_are_left_out_and_counted(settings: Settings) -> None:
    outside = sum(record["a"] < 5 for record in records(ROWS))
    found = replay(settings, features={"a": {"low": 5.0}, "b": {}})
    assert 0 < outside < ROWS
    assert (found.rows, found.rows_before, found.rows_left_out) == (ROWS - outside, ROWS, outside)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        ({"features": {"a": {}, "b": {}, "c": {}}}, "models.m.features.c: not in the log"),
        ({"features": {"a": {}, "b": {"type": "category"}}}, "models.m.features.b.type: 'category', expected 'number'"),
        ({"classes": ["a", "b"]}, "models.m.classes: ['a', 'b'], expected [0, 1]"),
        ({"target": "other"}, "models.m.target: 'other', expected 'y'"),
        ({"task": "multiclass"}, "models.m.task: 'multiclass', expected 'binary'"),
        ({"task": "regression", "classes": None}, "models.m.task: 'regression', expected 'binary'"),
    ],
)
def test_what_the_log_has_no_rows_for_is_refused_at_the_door(
    settings: Settings, model: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(Misconfigured) as refused:
        replay(settings, **model)
    assert wrong in str(refused.value)
    assert exit_code(refused.value) == MISCONFIGURED


@pytest.mark.parametrize("features", [{"b": {}}, {"a": {"low": 5.0}, "b": {}}, {"b": {}, "a": {}}])
def test_a_rebuild_takes_the_models_own_schema_and_no_other(settings: Settings, features: dict[str, Any]) -> None:
    rooms = Rooms(settings_of(settings.storage.root, features=features))
    with pytest.raises(Misconfigured, match=r"models\.m\.features.*stream-app replay m --with FILE"):
        compare(rooms, rooms, "m", None)
    with pytest.raises(Misconfigured, match=r"models\.m\.features"):
        online_outputs(rooms.stores, rooms.fold("m"), after=0, through=3)
