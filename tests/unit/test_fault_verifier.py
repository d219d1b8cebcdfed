"""The verifier of the fault suite sees each way in which a run can go wrong, and shares no code with the accused."""

import ast
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults import evidence as reading
from faults.evidence import Evidence, Row, Scene, Sent, read_database
from faults.stage import MODELS, PARTITIONS
from faults.verify import Verdict, verify
from faults.workload import POISON, Workload
from stream_app.kafka.topics import home_partition
from stream_app.storage.tables import metadata

FOLDER = Path(reading.__file__).parent


def sent(offset: int, value: object, *, expect: Sequence[str] = ("learn",), partition: int = 0, **headers: str) -> Sent:
    return Sent(
        topic="truth",
        partition=partition,
        offset=offset,
        key=b"m",
        value=value if isinstance(value, bytes) else json.dumps(value).encode(),
        headers={"x-expect": json.dumps(list(expect)), **{n.replace("_", "-"): v for n, v in headers.items()}},
    )


def letter(offset: int, reason: str = "not_json", index: int | None = None) -> Sent:
    headers = {
        "__connect.errors.topic": "truth",
        "__connect.errors.partition": "0",
        "__connect.errors.offset": str(offset),
        "x-dlq-reason": reason,
    }
    if index is not None:
        headers["x-dlq-index"] = str(index)
    return Sent(topic="truth.dlq", partition=0, offset=offset, key=b"m", value=b"", headers=headers)


def row(pos: int, offset: int, *, index: int = 0, event_id: str | None = None, **change: Any) -> Row:  # noqa: ANN401 - any field
    fixed = Row(
        model="m",
        seq=1,
        pos=pos,
        incarnation="inc",
        topic="truth",
        partition=0,
        offset=offset,
        index=index,
        origin=None,
        event_id=event_id,
        prediction_id=None,
        kind=0,
    )
    return replace(fixed, **change)


@pytest.fixture
def fine(tmp_path: Path) -> Evidence:
    """Return a run in which all is well: a good record, its repeat, poison, an array with one bad element, a stray."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "a.zip").write_bytes(b"model")
    artifact = {"path": "a.zip", "sha256": sha256(b"model").hexdigest()}
    event = {"model": "m", "promotion_seq": 1, "serving": [artifact]}
    counts = {"learned": 4, "late": 0, "corrections": 0, "duplicates": 1, "dead_lettered": 2, "forwarded": 0}
    return Evidence(
        scene=Scene(
            bootstrap="",
            ground_truth="truth",
            ingest={},
            model_updated="updated",
            dead_letter_suffix=".dlq",
            database="",
            root=tmp_path,
            artifacts=tmp_path / "artifacts",
        ),
        sent=[
            sent(0, {"x": 1, "event_id": "e"}),
            sent(2, {"x": 1, "event_id": "e"}, expect=["repeat"]),
            sent(3, b"garbage", expect=["dead:not_json"]),
            sent(5, [{"x": 1}, 7, {"x": 2}], expect=["learn", "dead:not_an_object", "learn"]),
            sent(0, {"x": 3}, partition=1),
            sent(9, {"x": 3}, x_stream_app_origin="inc/truth/1/0/0"),
        ],
        letters=[letter(3), letter(3), letter(5, "not_an_object", 1)],
        events=[replace(sent(0, event), topic="updated")],
        rows=[row(0, 0, event_id="e"), row(1, 5), row(2, 5, index=2), row(3, 9, origin="inc/truth/1/0/0")],
        tables={
            "models": [{"name": "m", "epoch": 2, "seq": 1, "effects_seq": 1, "promotion_seq": 1}],
            "windows": [window(1, epoch=2, rows=4, counts=counts)],
            "metrics": [metrics(1, rows=4, learned=4)],
            "publications": [
                {
                    "model": "m",
                    "promotion_seq": 1,
                    "version": "1.1",
                    "artifact": json.dumps(artifact),
                    "bytes_deleted_at": None,
                }
            ],
            "versions": [
                {"model": "m", "number": 1, "kind": "online", "status": "promoted", "metrics": "{}"},
                {
                    "model": "m",
                    "number": 2,
                    "kind": "batch",
                    "status": "gated",
                    "metrics": '{"job": 1, "candidate": "a"}',
                },
            ],
            "outbox": [{"event_id": "m:1", "sent_at": 7.0}],
            "jobs": [{"id": 1, "model": "m", "status": "succeeded", "version": 2}],
            "partition_positions": [
                {"topic": "truth", "partition": 1, "next_offset": 1, "dead_lettered": 0, "forwarded": 1}
            ],
        },
        observations=[("m", 2, 0)],
    )


def window(seq: int, *, epoch: int, rows: int, counts: dict[str, int] | None = None) -> dict[str, Any]:
    header = json.dumps({"counts": counts or {}})
    return {
        "model": "m", "seq": seq, "epoch": epoch, "closed_at": 5.0, "row_count": rows, "header": header, "file": None
    }  # fmt: skip


def metrics(seq: int, *, rows: int, learned: int) -> dict[str, Any]:
    body = json.dumps({"rows": rows, "learned": learned, "closed_at": 5.0})
    return {"model": "m", "seq": seq, "probe_hash": "p", "quarantined": None, "body": body}


def blamed(verdict: Verdict) -> set[str]:
    return {problem.partition(":")[0] for problem in verdict.problems}


def test_all_is_well(fine: Evidence) -> None:
    verdict = verify(fine)
    assert verdict.problems == []
    assert verdict.numbers == {
        "messages": 6,
        "sent": 8,
        "in_the_log": 4,
        "duplicates": 1,
        "dead_lettered": 2,
        "letters": 3,
        "forwarded": 1,
        "lost": 0,
        "twice": 0,
        "windows": 1,
        "metrics": 1,
        "events": 1,
        "publications": 1,
        "events_owed": 0,
        "versions": 2,
        "epochs": 1,
        "observations": 1,
    }


def test_a_record_that_is_nowhere_is_lost(fine: Evidence) -> None:
    fine.sent = [*fine.sent, sent(10, {"x": 9})]
    verdict = verify(fine)
    assert (verdict.numbers["lost"], blamed(verdict)) == (1, {"I1"})
    assert "truth[0] offset 10 is lost" in verdict.problems[0]


def test_a_dead_letter_that_never_came_is_a_loss(fine: Evidence) -> None:
    fine.letters = [fine.letters[2]]
    assert verify(fine).numbers["lost"] == 1


def test_a_record_that_is_learned_and_dead_lettered_is_told(fine: Evidence) -> None:
    fine.letters = [*fine.letters, letter(9)]
    assert any("is learned and dead-lettered" in problem for problem in verify(fine).problems)


def test_a_row_that_nobody_sent_is_told(fine: Evidence) -> None:
    fine.rows = [*fine.rows, row(4, 77)]
    assert any("offset 77, which nobody sent" in problem for problem in verify(fine).problems)


def test_a_place_an_id_or_an_origin_that_is_in_the_log_twice(fine: Evidence) -> None:
    for doubled in (
        row(4, 0, event_id=None),
        row(4, 2, event_id="e"),
        row(4, 2, origin="inc/truth/1/0/0"),
    ):
        told = verify(replace(fine, rows=[*fine.rows, doubled]))
        assert told.numbers["twice"] == 1
        assert "I2" in blamed(told)


def test_a_count_that_is_not_what_was_found(fine: Evidence) -> None:
    fine.tables["windows"][0]["header"] = json.dumps({"counts": {"learned": 4, "duplicates": 2, "dead_lettered": 2}})  # type: ignore[index]
    assert "I1: duplicates counted 2, found 1" in verify(fine).problems


def test_a_wrong_reason_and_a_good_record_among_the_dead(fine: Evidence) -> None:
    fine.letters = [letter(3, "too_large"), fine.letters[2]]
    assert any("expected dead:not_json, found ['too_large']" in problem for problem in verify(fine).problems)
    fine.letters = [letter(3), letter(5, "not_an_object", 1), letter(5, "not_json", 0)]
    assert any("good, and dead-lettered" in problem for problem in verify(fine).problems)


def test_a_window_is_missing_or_not_whole(fine: Evidence) -> None:
    fine.tables = {**fine.tables, "models": [{**fine.tables["models"][0], "seq": 2}]}
    assert "I2: m: the windows are not 1 to 2" in verify(fine).problems
    fine.rows = fine.rows[:3]
    assert "I2: m: window 1 holds 3 rows, not 4" in verify(fine).problems


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "m: window 1 has no metrics"),
        ([metrics(1, rows=4, learned=3)], "m: learned of window 1 is 3, not 4"),
        (
            [metrics(1, rows=4, learned=4), metrics(2, rows=0, learned=4)],
            "m: metrics of window 2, which does not exist",
        ),
    ],
)
def test_metrics_are_one_row_per_window_and_right(fine: Evidence, found: list[dict[str, Any]], problem: str) -> None:
    fine.tables = {**fine.tables, "metrics": found}
    assert f"I4: {problem}" in verify(fine).problems


def test_an_event_whose_artifact_is_gone_or_another(fine: Evidence) -> None:
    (fine.scene.artifacts / "a.zip").write_bytes(b"another")
    assert any("has another digest" in problem for problem in verify(fine).problems)
    (fine.scene.artifacts / "a.zip").unlink()
    assert blamed(verify(fine)) == {"I5"}


def test_an_event_that_was_never_published_or_never_sent(fine: Evidence) -> None:
    fine.tables = {**fine.tables, "outbox": [{"event_id": "m:1", "sent_at": None}]}
    assert verify(replace(fine, events=[])).ok
    fine.tables = {**fine.tables, "outbox": [{"event_id": "m:1", "sent_at": 7.0}]}
    assert verify(replace(fine, events=[])).problems == ["I5: m: publication 1 was never sent"]
    fine.tables = {**fine.tables, "publications": []}
    assert "I5: event m 1 is no publication of the database" in verify(fine).problems


def test_a_job_that_registered_twice_or_names_what_is_not_there(fine: Evidence) -> None:
    versions = fine.tables["versions"]
    fine.tables = {**fine.tables, "versions": [*versions, {**versions[1], "number": 3}]}
    assert verify(fine).problems == ["I5: m: job 1 registered a 2 times"]
    fine.tables = {**fine.tables, "versions": versions[:1]}
    assert verify(fine).problems == ["I5: m: a job names version 2, which is not there"]


def test_a_writer_that_had_lost_the_model(fine: Evidence) -> None:
    fine.tables = {
        **fine.tables,
        "models": [{**fine.tables["models"][0], "seq": 2}],
        "windows": [*fine.tables["windows"], window(2, epoch=1, rows=0)],
        "metrics": [*fine.tables["metrics"], metrics(2, rows=0, learned=4)],
    }
    told = verify(fine)
    assert blamed(told) == {"I7"}
    assert any("older epoch than the one before" in problem for problem in told.problems)
    assert any("older than 2, seen before it" in problem for problem in told.problems)


def test_a_late_write_is_seen_even_if_the_new_owner_wrote_nothing(fine: Evidence) -> None:
    """The epochs in the log alone would look fine: only who watched knows that epoch 3 existed at seq 0."""
    fine.observations = [("m", 3, 0)]
    assert blamed(verify(fine)) == {"I7"}


def test_of_many_problems_of_a_kind_some_are_told_and_all_are_counted(fine: Evidence) -> None:
    fine.sent = [*fine.sent, *(sent(100 + i, {"x": i}) for i in range(500))]
    verdict = verify(fine)
    assert verdict.numbers["lost"] == 500
    assert len(verdict.problems) < 30
    assert any("490 more" in problem for problem in verdict.problems)


def test_the_database_and_the_files_are_read_as_documented(fine: Evidence, tmp_path: Path) -> None:
    """A small window lies in its row, a large one in a file, merged ones share a file."""
    columns = {
        "pos": [0], "incarnation": ["inc"], "topic": ["truth"], "partition": [0], "index": [0], "origin": [None],
        "event_id": ["e"], "prediction_id": [None], "kind": [0], "feature_x": [1.0],
    }  # fmt: skip
    contents = {seq: pa.table({**columns, "seq": [seq], "offset": [seq * 10]}) for seq in (1, 2, 3)}
    merged = tmp_path / "merged.parquet"
    pq.write_table(pa.concat_tables([contents[2], contents[3]]), merged)
    inline = BytesIO()
    pq.write_table(contents[1], inline)
    with closing(sqlite3.connect(tmp_path / "faults.db")) as connection:
        _create_tables(connection)
        for seq in (1, 2, 3):
            place = (None, inline.getvalue()) if seq == 1 else ("merged.parquet", None)
            connection.execute(
                "INSERT INTO windows (model, seq, epoch, closed_at, row_count, header, file, inline)"
                " VALUES ('m', ?, 1, 0.0, 1, '{}', ?, ?)",
                (seq, *place),
            )
        digest = sha256(merged.read_bytes()).hexdigest()
        connection.execute("INSERT INTO window_files (path, sha256) VALUES ('merged.parquet', ?)", (digest,))
        connection.commit()
    scene = replace(fine.scene, database=str(tmp_path / "faults.db"))
    tables, rows, broken = read_database(scene)
    assert sorted((r.seq, r.offset) for r in rows) == [(1, 10), (2, 20), (3, 30)]
    assert len(tables["windows"]) == 3
    assert broken == []
    merged.write_bytes(merged.read_bytes() + b"x")
    assert read_database(scene)[2] == ["merged.parquet is missing or not what the database says"]


def _create_tables(connection: sqlite3.Connection) -> None:
    """Create the documented tables with their documented columns, without their constraints."""
    for table in metadata.sorted_tables:
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        connection.execute(f"CREATE TABLE {table.name} ({columns})")


def test_the_verifier_imports_nothing_of_ours() -> None:
    for path in (FOLDER / "verify.py", FOLDER / "evidence.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "stream_app"], path
            assert all(name == "faults.evidence" for name in names if name.startswith("faults")), path


def test_the_models_of_the_suite_live_on_different_partitions() -> None:
    assert len({home_partition(name.encode(), PARTITIONS) for name in MODELS}) == len(MODELS)


def test_the_workload_is_repeatable_and_holds_every_kind() -> None:
    one, other = (Workload(MODELS, {"in": MODELS[0]}, PARTITIONS, seed=3) for _ in range(2))
    messages = [one.next() for _ in range(1_000)]
    assert messages == [other.next() for _ in range(1_000)]
    assert {word for message in messages for word in message.expect} >= {"learn", "repeat", "dead:wrong_type"}
    assert {message.topic for message in messages} == {None, "in"}
    assert all(one.poisoned(kind).expect for kind in POISON)
