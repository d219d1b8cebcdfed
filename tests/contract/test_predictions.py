"""The prediction store on each database: pairs are joined once, whichever side comes first, whoever stores it."""

import threading
from collections.abc import Sequence
from functools import partial

import pytest
from sqlalchemy import Engine

from stream_app.core.joining import Outcome
from stream_app.errors import Fenced
from stream_app.serving_ports import Moved
from stream_app.settings import JoinSettings
from tests.contract.join_house import PLACE, JoinHouse, opinion, outcomes, prediction


@pytest.fixture
def house(engine: Engine) -> JoinHouse:
    return JoinHouse(engine)


def test_a_joined_label_says_all_that_was_served(house: JoinHouse) -> None:
    house.predict("p1", label=1)
    assert house.say("p1", "wrong") is Outcome.LEARNED
    (truth,) = house.owed()
    assert (truth.model, truth.label, truth.prediction_id, truth.event_id) == ("first", 0, "p1", "p1")
    assert (truth.occurred_at, truth.source, truth.corrects) == (990.0, "web", False)
    assert truth.features == {"a": 2, "c": "x"}
    assert truth.served == prediction("p1").served
    assert truth.served is not None
    assert truth.served.output == 0.1 + 0.2


def test_a_prediction_is_read_as_it_was_stored(house: JoinHouse) -> None:
    made = prediction("p1", "colours", "green")
    house.store.take_predictions([made, prediction("p1", "colours", "blue")])
    house.store.take_predictions([prediction("p1", "colours", "red")])
    found = house.store.prediction("p1")
    assert found == made.model_copy(update={"features": {"a": 2, "c": "x"}})
    assert house.store.prediction("p2") is None
    assert house.store.counts()["predictions"] == 1


def test_feedback_waits_for_its_prediction_and_is_heard_in_its_order(house: JoinHouse) -> None:
    assert [house.say("p1", said) for said in (0, 1, "unsure", "correct")] == [Outcome.PENDING] * 4
    house.predict("p1", label=1)
    assert house.labels() == [("p1", 0, False), ("p1", 1, True)]
    counts = house.store.counts("first")
    assert outcomes(counts, "learned", "corrected", "stored", "duplicate", "pending") == [1, 1, 1, 1, 0]


def test_first_learns_at_once_and_corrects_later(house: JoinHouse) -> None:
    house.predict("p1")
    found = [house.say("p1", said) for said in ("correct", 1, "wrong", 0, 1.0)]
    assert found == [Outcome.LEARNED, Outcome.DUPLICATE, Outcome.CORRECTED, Outcome.DUPLICATE, Outcome.CORRECTED]
    assert house.labels() == [("p1", 1, False), ("p1", 0, True), ("p1", 1, True)]


def test_last_hands_on_the_newest_label_once_its_time_is_over(house: JoinHouse) -> None:
    house.predict("p1", model="last")
    assert [house.say("p1", said) for said in (1, 0, 1, 0)] == [Outcome.PENDING] * 4
    assert (house.store.settle(), house.labels()) == (0, [])
    house.now += 60
    assert (house.store.settle(), house.store.settle()) == (1, 0)
    assert house.labels() == [("p1", 0, False)]
    assert outcomes(house.store.counts(), "learned", "duplicate", "stored") == [1, 1, 2]
    assert [house.say("p1", said) for said in (0, 1)] == [Outcome.DUPLICATE, Outcome.CORRECTED]
    assert house.labels()[1:] == [("p1", 1, True)]


def test_a_label_after_the_time_to_settle_finds_it_settled_whoever_looked(house: JoinHouse) -> None:
    house.predict("p1", model="last")
    house.say("p1", 0)
    house.now += 61
    assert house.say("p1", 1) is Outcome.CORRECTED
    assert house.labels() == [("p1", 0, False), ("p1", 1, True)]
    assert house.store.settle() == 0


def test_a_majority_is_handed_on_when_enough_have_spoken_or_time_is_over(house: JoinHouse) -> None:
    house.predict("p1", "p2", model="majority")
    assert [house.say("p1", said) for said in (0, 1, 1)] == [Outcome.PENDING, Outcome.PENDING, Outcome.DUPLICATE]
    assert [house.say("p1", said) for said in (0, 1)] == [Outcome.STORED, Outcome.DUPLICATE]
    assert [house.say("p2", said) for said in (0, 1)] == [Outcome.PENDING] * 2
    house.now += 60
    assert house.store.settle() == 1
    assert house.labels() == [("p1", 1, False), ("p2", 0, False)]
    assert outcomes(house.store.counts(), "learned", "duplicate", "stored", "pending") == [2, 2, 3, 0]


def test_one_batch_is_heard_like_one_after_the_other(house: JoinHouse) -> None:
    house.predict("p1", "p2", model="majority")
    said = [opinion(id_, label) for id_, label in [("p1", 1), ("p2", 0), ("p1", 0), ("p1", 1), ("p2", 0), ("p2", 1)]]
    found = house.store.take_feedback(said)
    assert house.labels() == [("p1", 1, False), ("p2", 0, False)]
    assert [outcome.value for outcome in found] == [
        "learned", "learned", "stored", "duplicate", "duplicate", "stored",
    ]  # fmt: skip


def test_a_repeated_feedback_changes_nothing_and_hears_what_became_of_it(house: JoinHouse) -> None:
    house.predict("p1")
    first = opinion("p1", 0, "mine")
    assert list(house.store.take_feedback([first, first])) == [Outcome.LEARNED] * 2
    house.say("p1", 1)
    assert house.say("p1", 0, "mine") is Outcome.LEARNED
    assert house.say("p2", 0, "mine") is Outcome.REFUSED
    assert house.labels() == [("p1", 0, False), ("p1", 1, True)]
    assert sum(house.store.counts().values()) == 1 + 2


def test_what_cannot_be_understood_is_recorded_as_refused(house: JoinHouse) -> None:
    house.predict("p1", model="colours", label="red")
    house.predict("p2", model="gone")
    assert [house.say("p1", said) for said in ("wrong", "mauve", "blue")] == [
        Outcome.REFUSED,
        Outcome.REFUSED,
        Outcome.LEARNED,
    ]
    assert house.say("p2", 1) is Outcome.REFUSED
    assert house.store.counts("colours")["refused"] == 2


def test_positions_move_with_what_they_stand_for(house: JoinHouse) -> None:
    epoch, _ = house.partitions.take_over(PLACE, owner="a")
    moved = partial(Moved, partition=PLACE, epoch=epoch)
    house.store.take_feedback([opinion("p1", 1)], moved=moved(position=7, dead_lettered=2))
    house.store.take_predictions([], moved=moved(position=9))
    assert house.partitions.counts() == {PLACE: (2, 0)}
    assert house.partitions.take_over(PLACE, owner="b") == (epoch + 1, 9)
    with pytest.raises(Fenced, match="feedback/2: epoch 1"):
        house.store.take_feedback([opinion("p1", 1)], moved=moved(position=10))
    with pytest.raises(Fenced):
        house.store.take_predictions([prediction("p1")], moved=moved(position=10))
    counts = house.store.counts()
    assert outcomes(counts, "predictions", "pending") == [0, 1]


def test_two_workers_that_each_hold_one_side_of_a_pair_join_it_once(engine: Engine) -> None:
    pairs = [f"p{i}" for i in range(60)]
    sides = [JoinHouse(engine), JoinHouse(engine)]
    start = threading.Barrier(2)

    def feed(house: JoinHouse, ids: Sequence[str], *, predicts: bool) -> None:
        start.wait()
        for id_ in ids:
            house.predict(id_) if predicts else house.say(id_, 0, f"about {id_}")

    threads = [
        threading.Thread(target=feed, args=(sides[0], pairs), kwargs={"predicts": True}),
        threading.Thread(target=feed, args=(sides[1], pairs), kwargs={"predicts": False}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(house_labels(sides[0])) == sorted((id_, 0, False) for id_ in pairs)
    assert outcomes(sides[0].store.counts(), "learned", "pending") == [60, 0]


def house_labels(house: JoinHouse) -> list[tuple[str, object, bool]]:
    return [(str(id_), label, corrects) for id_, label, corrects in house.labels()]


def test_feedback_that_waits_too_long_expires_unless_its_prediction_comes_meanwhile(house: JoinHouse) -> None:
    for id_ in ("p1", "p2"):
        house.say(id_, 1, f"about {id_}")
    assert house.store.expired() == []
    house.now += house.settings.pending_s + 1
    (first, given), (second, _) = house.store.expired()
    assert (given.prediction_id, given.label, given.source, given.given_at) == ("p1", 1, "web", 995.5)
    house.predict("p2")
    house.store.forget([first, second])
    assert outcomes(house.store.counts(), "expired", "learned", "pending") == [1, 1, 0]
    house.predict("p1")
    assert house.labels() == [("p2", 1, False)]
    assert house.say("p1", 1, "about p1") is Outcome.LEARNED


def test_feedback_beyond_the_bound_expires_oldest_first_and_what_gathers_does_not_count(engine: Engine) -> None:
    house = JoinHouse(engine, settings=JoinSettings(max_pending=2))
    house.predict("p9", model="last")
    house.say("p9", 1)
    for id_ in ("p1", "p2", "p3", "p4"):
        house.say(id_, 1)
        house.now += 1
    assert [given.prediction_id for _, given in house.store.expired()] == ["p1", "p2"]
    assert [given.prediction_id for _, given in house.store.expired(limit=1)] == ["p1"]
    assert ("feedback_pending", 4, {}) in house.heard.facts


def test_what_is_old_is_swept_with_its_feedback(house: JoinHouse) -> None:
    house.predict("p1", served_at=10)
    house.say("p1", 1)
    house.say("gone", 1)
    house.store.forget([id_ for id_, _ in house.store.expired()])
    house.now += house.settings.keep_s
    house.predict("p2", served_at=house.now)
    house.say("p2", 1)
    assert house.store.sweep() == 1
    assert house.store.sweep() == 0
    assert outcomes(house.store.counts(), "predictions", "learned", "pending") == [1, 1, 1]


def test_facts_are_told_once_they_are_durable(house: JoinHouse) -> None:
    house.predict("p1", served_at=990)
    house.say("p1", 1)
    assert house.heard.facts == [
        ("predictions_stored", 1, {"model": "first"}),
        ("feedback", 1, {"model": "first", "outcome": "learned"}),
        ("label_lag", 10.0, {"model": "first"}),
    ]
