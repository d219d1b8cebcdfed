"""`stream-app collect` as a person types it: what a database holds is learned once, however often it is sent."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tests.integration.pipeline import Pipeline, electricity, settings_text

COLLECT = (
    *("collect", "--model", "electricity", "--url", "sqlite:///market.db", "--batch", "20"),
    *("--query", "SELECT * FROM prices WHERE processed = 0 ORDER BY id"),
    *("--mark", "UPDATE prices SET processed = 1 WHERE id = :id"),
    *("--map", "target=went_up"),
)


def test_rows_that_come_again_after_a_crash_are_learned_once(tmp_path: Path, embedded_bootstrap: str) -> None:
    pipeline = Pipeline(tmp_path, embedded_bootstrap)
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    add(tmp_path, range(50))
    pipeline.run("topics", "create")
    with pipeline.running("worker") as worker:
        first = pipeline.json(*COLLECT)
        assert first == {"model": "electricity", "topic": "ground-truth", "sent": 50, "marked": 50, "skipped": 0}
        # the last batch was sent, and the process died before it marked it; meanwhile there are new rows
        execute(tmp_path, "UPDATE prices SET processed = 0 WHERE id > 40")
        add(tmp_path, range(50, 60))
        assert pipeline.json(*COLLECT)["sent"] == 20
        assert pipeline.json(*COLLECT)["sent"] == 0
        pipeline.until_learned(60, worker)
        assert worker.stop() == 0
    counts = pipeline.json("log", "verify", "electricity")["counts"]

    assert counts == {"learned": 60, "late": 0, "corrections": 0, "duplicates": 10, "dead_lettered": 0}


def add(folder: Path, places: Iterable[int]) -> None:
    """Insert rows of the electricity data, under ids that begin with 1."""
    rows = electricity(100)
    names = ", ".join(name for name in rows[0] if name != "class")
    execute(folder, f"CREATE TABLE IF NOT EXISTS prices (id INTEGER PRIMARY KEY, {names}, went_up, processed)")
    for place in places:
        values = (place + 1, *rows[place].values(), 0)
        execute(folder, "INSERT INTO prices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *values)


def execute(folder: Path, statement: str, *values: object) -> None:
    """Run one statement in a transaction of its own."""
    with closing(sqlite3.connect(folder / "market.db")) as database, database:
        database.execute(statement, values)
