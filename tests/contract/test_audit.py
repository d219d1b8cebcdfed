"""What an audit says of a log whose newest window has no effects yet, and of records that no log holds."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from stream_app.errors import Outage
from stream_app.ports import Effects
from stream_app.settings import Settings
from stream_app.storage.effects import SqlPublications
from stream_app.storage.tables import metrics, models
from stream_app.storage.window_log import SqlWindowLog
from stream_app.worker.audit import Audit, audit
from tests.contract.working import PLACE, Bench, bench, records, run_of, settings_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def audited(made: Bench) -> Audit:
    return audit(made.rooms.stores, made.rooms.fold("m"), lambda _: None)


async def learn(settings: Settings, n: int = 200) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(n)))
        await made.handler.drain()


async def test_a_worker_that_stopped_between_commit_and_effects_left_nothing_broken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = SqlPublications.apply_effects

    def until_the_third(self: SqlPublications, model: str, *, epoch: int, effects: Effects) -> None:
        if effects.report.seq == 3:
            raise Outage("the database went away")
        apply(self, model, epoch=epoch, effects=effects)

    with monkeypatch.context() as patch:
        patch.setattr(SqlPublications, "apply_effects", until_the_third)
        with pytest.raises(Outage):
            await learn(settings)
    with bench(settings) as made:
        found = audited(made)
        assert (found.ok, found.unfinished, found.windows) == (True, [3], 3), found.problems
        assert found.probe_hash_live == found.probe_hash_replayed
        await made.handler.assigned([PLACE])
        found = audited(made)
        assert (found.ok, found.unfinished) == (True, []), found.problems


@pytest.mark.parametrize("seq", [1, 2, 4])
async def test_metrics_that_are_lost_are_no_unfinished_window(settings: Settings, seq: int) -> None:
    await learn(settings)
    with bench(settings) as made:
        with made.rooms.engine.begin() as connection:
            connection.execute(delete(metrics).where(metrics.c.seq == seq))
        found = audited(made)
    assert found.problems == [f"I4: window {seq} has no metrics"]
    assert found.unfinished == []


async def test_more_than_the_newest_window_cannot_be_unfinished(settings: Settings) -> None:
    await learn(settings)
    with bench(settings) as made:
        with made.rooms.engine.begin() as connection:
            connection.execute(delete(metrics).where(metrics.c.seq > 2))
            connection.execute(update(models).values(effects_seq=2))
        found = audited(made)
    assert found.problems == ["I4: windows [3, 4] have no metrics, expected at most the newest to have none"]


async def test_metrics_beyond_the_stored_effects_are_a_problem(settings: Settings) -> None:
    await learn(settings)
    with bench(settings) as made:
        with made.rooms.engine.begin() as connection:
            connection.execute(update(models).values(effects_seq=3))
        found = audited(made)
    assert found.problems == ["I4: metrics of window 4, whose effects are said not to be stored"]


def test_a_worker_may_go_on_beside_the_audit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(learn(settings))
    read, later = SqlWindowLog.metrics, iter([learn(settings, 300)])

    def and_learn_on(self: SqlWindowLog, model: str, *, after: int = 0) -> Sequence[Mapping[str, Any]]:
        found = read(self, model, after=after)
        for learning in later:
            monkeypatch.setattr(SqlWindowLog, "metrics", read)
            asyncio.run(learning)
        return found

    with bench(settings) as made:
        monkeypatch.setattr(SqlWindowLog, "metrics", and_learn_on)
        found = audited(made)
        assert (found.ok, found.windows, found.unfinished) == (True, 4, []), found.problems
        assert audited(made).windows > 4


async def test_everything_that_was_sent_is_in_one_audit(settings: Settings) -> None:
    sent = [*records(60), *records(5), b"{", b"[", {"event_id": "x", "a": "no number", "b": 1, "y": 0}]
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(sent))
        await made.take(run_of(records(1, start=60), offset=len(sent), key=b"nobody"))
        await made.handler.drain()
        found = audited(made)
    assert found.ok, found.problems
    assert found.elsewhere == {"ground-truth[0]": {"dead_lettered": 3, "forwarded": 0}}
    assert (found.counts["learned"], found.counts["duplicates"], found.counts["dead_lettered"]) == (60, 5, 1)
    assert sum(found.counts.values()) + 3 == len(sent) + 1


async def test_forwarded_records_are_counted_where_they_came_from(settings: Settings) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE, ("raw", 0)])
        await made.take(run_of(records(7), topic="raw"))
        await made.handler.drain()
        assert audited(made).elsewhere["raw[0]"] == {"dead_lettered": 0, "forwarded": 7}
