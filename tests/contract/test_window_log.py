"""The window log: committed once, fenced, and read back to the last bit."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from log_house import HOME, MANY, NOW, SCHEMA, House, effects_of, make_rows, make_window, publication, same_rows
from sqlalchemy import select, update

from stream_app.errors import Conflict, Corrupt, Fenced, Misconfigured, NotFound, Outage
from stream_app.messages import MODEL_UPDATED
from stream_app.ports import Effects
from stream_app.storage import tables
from stream_app.storage.database import open_database
from stream_app.storage.window_log import SqlWindowLog
from stream_app.values import Closing, ControlEntry, Counts, Tenure


def test_a_new_model_stands_at_its_start(house: House) -> None:
    tenure = house.own()
    assert tenure == Tenure(
        model="m", epoch=1, seq=0, effects_seq=0, schema_json=SCHEMA, positions={HOME: 0}, origin_marks={}
    )


def test_taking_over_moves_the_epoch_and_keeps_schema_and_positions(house: House) -> None:
    house.log.commit(make_window(house.own(), 1, make_rows(3)))
    tenure = house.log.take_over("m", owner="o", schema_json='{"numeric": [], "categorical": []}', start={HOME: 9})
    assert (tenure.epoch, tenure.seq, tenure.effects_seq) == (2, 1, 0)
    assert tenure.schema_json == SCHEMA
    assert tenure.positions == {HOME: 5}


def test_first_owners_at_once_create_one_model(house: House) -> None:
    barrier = Barrier(6)

    def own(_: int) -> int:
        barrier.wait()
        return house.own().epoch

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(own, range(6))) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x" * 65, "-m"])
def test_a_name_that_could_be_a_path_is_refused(house: House, name: str) -> None:
    with pytest.raises(Misconfigured, match="model"):
        house.own(name)


def test_a_schema_without_names_of_features_is_refused(house: House) -> None:
    with pytest.raises(Misconfigured, match="'numeric' and 'categorical'"):
        house.log.take_over("m", owner="o", schema_json="[]", start={})


@pytest.mark.parametrize("count", [1, MANY])
def test_what_was_committed_is_read_back(house: House, count: int) -> None:
    """Small windows travel in the transaction, large ones are files."""
    tenure = house.own()
    windows = [make_window(tenure, seq, make_rows(count, first=seq * count)) for seq in (1, 2, 3)]
    for window in windows:
        house.log.commit(window)
    read = list(house.log.windows("m"))
    assert [w.header for w in read] == [w.header for w in windows]
    assert all(same_rows(a.rows, b.rows) for a, b in zip(read, windows, strict=True))
    assert len(list((house.root / "windows").rglob("*.parquet"))) == (3 if count == MANY else 0)


def test_a_header_says_everything(house: House) -> None:
    tenure = house.own()
    request = house.control.ask("m", "promote", {"version": 3}, by="cli")
    entry = ControlEntry(request_id=request, kind="promote", body={"version": 3}, accepted=True, reason="asked")
    window = make_window(
        tenure,
        1,
        closing=Closing.CONTROL,
        positions={HOME: 7, replace(HOME, number=3): 9},
        origin_marks={"i0/raw/1": (44, 2)},
        counts=Counts(duplicates=1, dead_lettered=2, forwarded=3),
        control=(entry,),
    )
    house.log.commit(window)
    assert list(house.log.windows("m")) == [window]
    assert house.log.positions("m") == window.header.positions


def test_windows_can_be_read_in_part(house: House) -> None:
    tenure = house.own()
    for seq in range(1, 6):
        house.log.commit(make_window(tenure, seq, make_rows(2, first=seq * 10) if seq % 2 else None))
    assert [w.header.seq for w in house.log.windows("m", after=2, through=4)] == [3, 4]
    assert [w.header.seq for w in house.log.windows("m", after=5)] == []


def test_positions_and_marks_never_move_backwards(house: House) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, 1, positions={HOME: 9}, origin_marks={"o": (5, 3), "p": (1, 1)}))
    house.log.commit(make_window(tenure, 2, positions={HOME: 8}, origin_marks={"o": (5, 2), "p": (2, 0)}))
    after = house.own()
    assert after.positions == {HOME: 9}
    assert after.origin_marks == {"o": (5, 3), "p": (2, 0)}


@pytest.mark.parametrize("count", [1, MANY])
def test_an_owner_that_lost_the_model_writes_nothing(house: House, count: int) -> None:
    old, new = house.own(), house.own()
    with pytest.raises(Fenced, match="epoch 1 lost the model"):
        house.log.commit(make_window(old, 1, make_rows(count)))
    assert list(house.log.windows("m")) == []
    assert house.log.positions("m") == {HOME: 0}
    house.log.commit(make_window(new, 1, make_rows(count)))


@pytest.mark.parametrize("seq", [1, 3])
def test_a_window_out_of_turn_is_fenced(house: House, seq: int) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, 1))
    with pytest.raises(Fenced, match=f"window {seq} is not the next"):
        house.log.commit(make_window(tenure, seq))


def test_two_writers_of_one_epoch_commit_each_window_once(house: House) -> None:
    """A zombie with the very same epoch cannot fork the log either."""
    tenure, other = house.own(), house.other_log()

    def write(log: SqlWindowLog, first: int) -> list[int]:
        done = []
        for seq in range(1, 11):
            try:
                log.commit(make_window(tenure, seq, make_rows(2, first=first + seq * 2)))
                done.append(seq)
            except Fenced:
                continue
        return done

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(write, [house.log, other], [0, 10_000])
    assert sorted(one + two) == list(range(1, max(one + two) + 1))
    assert [w.header.seq for w in house.log.windows("m")] == sorted(one + two)


def test_a_request_is_answered_by_the_window_that_carries_it(house: House) -> None:
    tenure = house.own()
    first, second = (house.control.ask("m", "promote", {"version": n}, by="cli") for n in (3, 4))
    assert house.control.waiting("m") == [(first, "promote", {"version": 3}), (second, "promote", {"version": 4})]
    assert house.control.answer(first) is None
    assert house.control.answered_in(first) is None
    entry = ControlEntry(request_id=first, kind="promote", body={"version": 3}, accepted=False, reason="stale")
    house.log.commit(make_window(tenure, 1))
    house.log.commit(make_window(tenure, 2, control=(entry,)))
    assert house.control.answer(first) == entry
    assert house.control.answered_in(first) == 2
    assert [id_ for id_, *_ in house.control.waiting("m")] == [second]
    with pytest.raises(Conflict, match="does not wait for an answer"):
        house.log.commit(make_window(tenure, 3, control=(entry,)))
    assert [w.header.seq for w in house.log.windows("m")] == [1, 2]


def test_nothing_is_asked_of_an_unknown_model(house: House) -> None:
    with pytest.raises(NotFound, match="'zebra'"):
        house.control.ask("zebra", "promote", {}, by="cli")


def test_effects_are_stored_once(house: House) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, 1, make_rows(2)))
    effects = effects_of(1, events=(("drift", b"d"), ("x", b"e")))
    house.log.apply_effects("m", epoch=1, effects=effects)
    house.log.apply_effects("m", epoch=1, effects=effects)
    assert house.log.metrics("m") == [{"seq": 1, "probe_hash": "p" * 64, "quarantined": None, "accuracy": 0.5, "n": 1}]
    assert [(row["event_id"], row["type"], row["topic"], row["key"], row["value"]) for row in house.outbox()] == [
        ("m:1:0", "drift", "learning-events", b"m", b"d"),
        ("m:1:1", "x", "learning-events", b"m", b"e"),
    ]
    assert house.own().effects_seq == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"metrics": {"accuracy": math.nextafter(0.5, 1), "n": 1}}, "body"),
        ({"probe_hash": "q" * 64}, "probe_hash"),
        ({"quarantined": "weights"}, "quarantined"),
    ],
)
def test_a_repeat_that_found_out_something_else_is_corrupt(house: House, change: dict[str, Any], named: str) -> None:
    house.log.commit(make_window(house.own(), 1))
    house.log.apply_effects("m", epoch=1, effects=effects_of(1))
    differing = Effects(report=replace(effects_of(1).report, **change))
    with pytest.raises(Corrupt, match=f"window 1 again gave another {named}"):
        house.log.apply_effects("m", epoch=1, effects=differing)


def test_effects_have_their_turn(house: House) -> None:
    tenure = house.own()
    with pytest.raises(Conflict, match="out of turn"):
        house.log.apply_effects("m", epoch=1, effects=effects_of(1))  # its window is not committed
    house.log.commit(make_window(tenure, 1))
    house.log.commit(make_window(tenure, 2))
    with pytest.raises(Conflict, match="out of turn"):
        house.log.apply_effects("m", epoch=1, effects=effects_of(2))
    house.own()
    with pytest.raises(Fenced):
        house.log.apply_effects("m", epoch=1, effects=effects_of(1))
    assert house.log.metrics("m") == []


def test_a_promotion_moves_pointer_version_and_outbox_together(house: House) -> None:
    tenure = house.own()
    house.add_version(1)
    house.add_version(2)
    for seq, number in ((1, 1), (2, 2)):
        house.log.commit(make_window(tenure, seq))
        house.log.apply_effects(
            "m", epoch=1, effects=effects_of(seq, promoted=(number, publication(str(number), trained_through=seq)))
        )
    assert (house.model()["champion"], house.model()["promotion_seq"]) == (2, 2)
    assert (house.status(1), house.status(2)) == ("promoted", "promoted")
    assert [(r["event_id"], r["type"], r["topic"], r["value"], r["promotion_seq"]) for r in house.outbox()] == [
        ("m:1", MODEL_UPDATED, "model-updated", b"event 1", 1),
        ("m:2", MODEL_UPDATED, "model-updated", b"event 2", 2),
    ]
    assert house.publications.last("m") == (2, NOW, 2)
    assert (house.own().champion, house.own().promotion_seq) == (2, 2)


def test_a_promotion_of_an_unknown_version_stores_nothing(house: House) -> None:
    house.log.commit(make_window(house.own(), 1))
    with pytest.raises(NotFound, match="no version 7"):
        house.log.apply_effects("m", epoch=1, effects=effects_of(1, promoted=(7, publication("7"))))
    assert house.log.metrics("m") == house.outbox() == []
    assert house.model()["effects_seq"] == 0


def test_a_snapshot_is_published_if_its_window_is_the_newest(house: House) -> None:
    tenure = house.own()
    assert house.publications.last("m") is None
    house.log.commit(make_window(tenure, 1))
    house.log.apply_effects("m", epoch=1, effects=effects_of(1))
    assert house.publications.publish("m", epoch=1, at_seq=1, publication=publication("1.1")) == 1
    assert house.publications.publish("m", epoch=1, at_seq=1, publication=publication("1.1")) == 2
    with pytest.raises(Conflict, match="not the newest"):
        house.publications.publish("m", epoch=1, at_seq=0, publication=publication("1.0"))
    house.own()
    with pytest.raises(Fenced):
        house.publications.publish("m", epoch=1, at_seq=1, publication=publication("1.1"))
    assert [row["value"] for row in house.outbox()] == [b"event 1", b"event 2"]
    assert house.model()["champion"] == 1


def test_metrics_come_in_order_and_in_part(house: House) -> None:
    tenure = house.own()
    for seq in range(1, 5):
        house.log.commit(make_window(tenure, seq))
        house.log.apply_effects("m", epoch=1, effects=effects_of(seq))
    assert [row["seq"] for row in house.log.metrics("m", after=1)] == [2, 3, 4]
    assert [row["seq"] for row in house.log.metrics("m", newest=2)] == [3, 4]


def test_the_table_has_the_rows_in_order(house: House) -> None:
    tenure = house.own()
    counts = [2, MANY, 0, 3]
    for seq, count in enumerate(counts, 1):
        house.log.commit(make_window(tenure, seq, make_rows(count, first=seq * MANY) if count else None))
    table = house.log.table("m")
    assert table["seq"].to_pylist() == [1] * 2 + [2] * MANY + [4] * 3
    assert table["pos"].to_pylist() == [*range(2), *range(MANY), *range(3)]
    numbers = np.concatenate([w.rows.features.numeric[:, 1] for w in house.log.windows("m") if w.rows])
    np.testing.assert_array_equal(table["feature_y"].to_numpy(), numbers)
    assert len(house.log.table("m", after=1, through=3)) == MANY
    assert house.log.table("m", columns=["label", "event_id"]).column_names == ["label", "event_id"]
    assert house.log.table("m", after=4).column_names == table.column_names


def test_outputs_of_contenders_are_null_where_there_were_none(house: House) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, 1, make_rows(2)))
    both = {"3": np.array([0.25, math.nan]), "4": np.array([[0.5, 0.5], [0.125, 0.875]])}
    house.log.commit(make_window(tenure, 2, replace(make_rows(2, first=5), outputs=both)))
    table = house.log.table("m")
    assert table["out_3"].to_pylist() == [None, None, 0.25, None]
    assert table["out_4"].to_pylist() == [None, None, [0.5, 0.5], [0.125, 0.875]]
    first, second = house.log.windows("m")
    assert first.rows is not None
    assert second.rows is not None
    assert first.rows.outputs == {}
    np.testing.assert_array_equal(second.rows.outputs["3"], both["3"])
    np.testing.assert_array_equal(second.rows.outputs["4"], both["4"])


def test_the_digest_of_rows_is_a_chain(house: House) -> None:
    tenure = house.own()
    assert house.log.rows_digest("m", through=0) == (0, "")
    for seq in (1, 2, 3):
        house.log.commit(make_window(tenure, seq, make_rows(seq) if seq != 2 else None))
    count, first = house.log.rows_digest("m", through=1)
    assert count == 1
    assert house.log.rows_digest("m", through=2) == (1, first)
    count, third = house.log.rows_digest("m", through=3)
    assert count == 4
    assert third != first
    with pytest.raises(NotFound, match="window 4"):
        house.log.rows_digest("m", through=4)


def _spoil_inline(house: House) -> None:
    with house.engine.begin() as connection:
        other = select(tables.windows.c.inline).where(tables.windows.c.seq == 1).scalar_subquery()
        connection.execute(update(tables.windows).where(tables.windows.c.seq == 2).values(inline=other))


def _cut_inline(house: House) -> None:
    with house.engine.begin() as connection:
        connection.execute(update(tables.windows).where(tables.windows.c.seq == 2).values(inline=b"PAR1"))


@pytest.mark.parametrize("spoil", [_spoil_inline, _cut_inline])
def test_altered_rows_are_corrupt(house: House, spoil: Callable[[House], None]) -> None:
    tenure = house.own()
    for seq in (1, 2):
        house.log.commit(make_window(tenure, seq, make_rows(4, first=seq)))
    spoil(house)
    windows = house.log.windows("m")
    assert next(windows).header.seq == 1
    with pytest.raises(Corrupt, match="m: window 2"):
        next(windows)


@pytest.mark.parametrize("change", ["flip", "truncate", "delete"])
def test_an_altered_file_is_corrupt(house: House, change: str) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, 1, make_rows(MANY)))
    (file,) = (house.root / "windows" / "m").iterdir()
    content = file.read_bytes()
    file.unlink()
    if change != "delete":
        file.write_bytes(content[:-9] if change == "truncate" else content[:500] + b"!" + content[501:])
    for read in (lambda: list(house.log.windows("m")), lambda: house.log.table("m")):
        with pytest.raises(Corrupt, match="m: window 1"):
            read()


def test_a_missing_window_is_corrupt(house: House) -> None:
    """A fold over a log with a hole would be silently wrong."""
    tenure = house.own()
    for seq in (1, 2, 3):
        house.log.commit(make_window(tenure, seq))
    with house.engine.begin() as connection:
        connection.execute(tables.windows.delete().where(tables.windows.c.seq == 2))
    with pytest.raises(Corrupt, match="windows are missing"):
        list(house.log.windows("m"))


def test_rows_that_do_not_fit_the_schema_are_refused(house: House) -> None:
    rows = make_rows(2)
    narrow = replace(rows, features=replace(rows.features, numeric=rows.features.numeric[:, :1]))
    with pytest.raises(ValueError, match="the schema names"):
        house.log.commit(make_window(house.own(), 1, narrow))


def test_models_do_not_share_anything(house: House) -> None:
    one, two = house.own("m"), house.own("n")
    house.log.commit(make_window(one, 1, make_rows(2)))
    house.log.commit(make_window(two, 1, make_rows(3)))
    assert [len(house.log.table(model)) for model in "mn"] == [2, 3]
    assert (house.own("n").epoch, house.own("m").epoch) == (2, 2)


def test_a_database_of_another_process_is_seen(house: House, tmp_path: Path) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, 1, make_rows(2)))
    url = house.engine.url.render_as_string(hide_password=False)
    other = open_database(url, tmp_path)
    try:
        assert len(list(House(other, house.root).log.windows("m"))) == 1
    finally:
        other.dispose()


def test_a_failed_write_stops_all_later_ones(house: House) -> None:
    """After a failed fsync the kernel may call the next one a success although the data is gone."""
    tenure = house.own()
    folder = house.root / "windows" / "m"
    folder.mkdir(parents=True)
    folder.rmdir()
    folder.touch()  # not a folder
    window = make_window(tenure, 1, make_rows(MANY))
    with pytest.raises(Outage):
        house.log.commit(window)
    folder.unlink()
    with pytest.raises(Outage, match="earlier failure"):
        house.log.commit(window)
    house.other_log().commit(window)
