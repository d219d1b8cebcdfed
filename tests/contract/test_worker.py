"""The worker over real storage: everything once, whatever comes and whenever it stops."""

import asyncio
from pathlib import Path

import pytest
from river import linear_model, preprocessing

from stream_app.errors import Fenced, Misconfigured, TooManyBadRecords
from stream_app.settings import Settings
from stream_app.worker.audit import audit
from tests.contract.working import PLACE, Bench, bench, records, run_of, settings_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def proof(made: Bench) -> dict[str, int]:
    found = audit(made.rooms.stores, made.rooms.fold("m"), lambda _: None)
    assert found.ok, found.problems
    return found.counts


async def test_what_is_learned_is_what_ten_lines_of_river_learn(settings: Settings) -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    right = 0
    for record in records(330):
        x = {"a": float(record["a"]), "b": float(record["b"])}
        right += (model.predict_one(x) or False) == bool(record["y"])
        model.learn_one(x, bool(record["y"]))
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        for at in range(0, 330, 30):
            await made.take(run_of(records(30, start=at), offset=at))
        await made.handler.drain()
        newest = made.rooms.stores.log.metrics("m", newest=1)[0]
        assert newest["learned"] == 330
        assert newest["prequential"]["accuracy"] == right / 330
        assert made.acknowledged == list(range(29, 330, 30))
        assert proof(made)["learned"] == 330


async def test_after_a_stop_at_any_point_the_next_owner_goes_on_with_the_same_bits(settings: Settings) -> None:
    with bench(settings) as made:
        assert await made.handler.assigned([PLACE]) == {PLACE: 0}
        await made.take(run_of(records(120)))
        await made.until_settled(119)
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(130), offset=0))
        await made.handler.drain()
        counts = proof(made)
        assert counts["learned"] == 130
        assert counts["duplicates"] == 0


async def test_an_open_window_is_dropped_on_revoke_and_read_again(settings: Settings) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(70)))
        await made.handler.revoked([PLACE])
        await made.handler.assigned([PLACE])
        assert made.rooms.stores.log.metrics("m", newest=1)[0]["learned"] == 50
        await made.take(run_of(records(70)))
        await made.handler.drain()
        assert proof(made)["learned"] == 70


async def test_a_second_owner_fences_the_first(settings: Settings) -> None:
    with bench(settings) as first, bench(settings) as second:
        await first.handler.assigned([PLACE])
        await second.handler.assigned([PLACE])
        await first.take(run_of(records(10)))
        with pytest.raises(Fenced):
            await first.handler.drain()
        await second.take(run_of(records(10)))
        await second.handler.drain()
        assert proof(second)["learned"] == 10


async def test_bad_records_are_dead_letters_and_good_neighbours_are_learned(settings: Settings) -> None:
    good = records(6)
    bad = [b"\xff", None, {**good[0], "a": "x"}, {**good[1], "y": 7}, b"[1]"]
    with bench(settings, max_bad_share=1.0) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of([*good[:3], *bad, *good[3:]]))
        await made.handler.drain()
        counts = proof(made)
        assert counts["learned"] == 6
        assert counts["dead_lettered"] == 2
        elsewhere = [letters for letters, _ in made.rooms.stores.partitions.counts().values()]
        assert elsewhere == [3]
        assert sorted(m.value or b"" for m in made.sent) == sorted(
            [b"", b"\xff", b"[1]", *(run_of([r]).values[0] or b"" for r in bad[2:4])]
        )
        assert {m.topic for m in made.sent} == {"ground-truth.dlq"}


async def test_a_restart_sends_no_dead_letter_twice_that_was_stored(settings: Settings) -> None:
    with bench(settings, max_bad_share=1.0) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of([b"\xff", *records(3)]))
        await made.handler.drain()
    with bench(settings, max_bad_share=1.0) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of([b"\xff", *records(3)]))
        await made.handler.drain()
        assert made.sent == []
        assert proof(made)["learned"] == 3


async def test_a_stream_of_nothing_but_poison_stops_the_worker(settings: Settings) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        with pytest.raises(TooManyBadRecords, match="dlq list"):
            await made.take(run_of([b"\xff"] * 200))


async def test_positions_that_are_stored_at_once_do_not_fence_each_other(settings: Settings) -> None:
    """A tick and a run with dead letters each store one; threads may finish in either order."""
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        station = made.handler._stations[PLACE]
        await asyncio.gather(*(made.handler._store_position(station, at) for at in (30, 10, 20)))
        assert station.position == 30
        assert made.rooms.stores.partitions.take_over(station.partition, owner="next") == (2, 30)


async def test_a_repeat_across_a_restart_is_recognised(settings: Settings) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(60)))
        await made.handler.drain()
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(60), offset=60))
        await made.handler.drain()
        counts = proof(made)
        assert (counts["learned"], counts["duplicates"]) == (60, 60)


async def test_records_of_an_ingest_topic_are_forwarded_once(settings: Settings) -> None:
    raw = ("raw", 0)
    with bench(settings) as made:
        await made.handler.assigned([raw])
        await made.take(run_of(records(3), key=None, topic="raw"))
        await made.handler.drain()
        assert [m.key for m in made.sent] == [b"m"] * 3
    with bench(settings) as made:
        assert await made.handler.assigned([raw]) == {raw: 3}


async def test_the_online_learner_is_promoted_with_its_first_rows_and_published_as_it_learns(
    settings: Settings,
) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(50)))
        await made.until_settled(49)
        assert made.rooms.stores.registry.champion("m") == (1, 1)
        await made.take(run_of(records(300, start=50), offset=50))
        await made.until_settled(349)
        champion, promotion_seq = made.rooms.stores.registry.champion("m")
        assert champion == 1
        assert promotion_seq >= 3
        types = [message.type for message in made.rooms.stores.outbox.unsent()]
        assert types.count("io.stream_app.model.promoted.v1") == 1


async def test_a_request_for_a_version_that_is_not_there_is_refused_with_its_reason(settings: Settings) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(50)))
        await made.until_settled(49)
        request = made.rooms.stores.control.ask("m", "promote", {"version": 9}, by="test")
        await made.handler.drain()
        while made.rooms.stores.control.answer(request) is None:
            await made.handler.tick()
        entry = made.rooms.stores.control.answer(request)
        assert entry is not None
        assert not entry.accepted
        assert "does not exist" in entry.reason


async def test_changed_settings_stop_the_worker_unless_it_may_refold(settings: Settings, tmp_path: Path) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(60)))
        await made.handler.drain()
    with bench(settings_of(tmp_path, seed=2)) as made, pytest.raises(Misconfigured, match="refold"):
        await made.handler.assigned([PLACE])
    with bench(settings_of(tmp_path, seed=2, on_change="refold")) as made:
        await made.handler.assigned([PLACE])
        await made.take(run_of(records(10, start=60), offset=60))
        await made.handler.drain()
        assert made.rooms.stores.log.metrics("m", newest=1)[0]["learned"] == 70
