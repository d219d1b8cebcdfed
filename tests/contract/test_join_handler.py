"""The worker's door for predictions and feedback: stored once, dead letters first, fenced like all else."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream_app.errors import Fenced, Outage, TooManyBadRecords
from stream_app.kafka.letters import ORIGIN
from stream_app.kafka.relay import _outgoing
from stream_app.messages import LABEL_JOINED, GroundTruth
from stream_app.ports import Outgoing
from stream_app.settings import Settings
from stream_app.values import Run
from tests.contract.working import PLACE, Bench, bench, run_of, settings_of

NOW_S = round(time.time())
MADE, SAID = ("predictions", 0), ("feedback", 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def predictions(*numbers: int) -> list[dict[str, Any]]:
    served = {"version": "1.2", "output": 0.625, "digest": None, "known_label": 0}
    return [
        {
            "prediction_id": f"p{i}",
            "model": "m",
            "features": {"a": i, "b": 1.5},
            "served": served,
            "label": 1,
            "served_at": NOW_S - 60,
        }
        for i in numbers
    ]


def verdicts(*numbers: int, verdict: str = "correct") -> list[dict[str, Any]]:
    return [{"prediction_id": f"p{i}", "verdict": verdict} for i in numbers]


def run(place: tuple[str, int], records: Sequence[Any], *, offset: int = 0) -> Run:
    """Return a run as of now: the times of predictions are compared with it."""
    found = run_of(records, offset=offset, key=b"p", topic=place[0])
    return Run(
        partition=found.partition,
        offsets=found.offsets,
        keys=found.keys,
        values=found.values,
        headers=found.headers,
        timestamps_ms=[NOW_S * 1000] * len(found),
    )


async def give(made: Bench, place: tuple[str, int], records: Sequence[Any], *, offset: int = 0) -> bool:
    """Hand a run over and return whether it was acknowledged."""
    done: list[bool] = []

    async def note() -> None:
        done.append(True)

    await made.reception.take(run(place, records, offset=offset), note)
    return bool(done)


def owed(made: Bench) -> list[Outgoing]:
    return [_outgoing(m) for m in made.rooms.stores.outbox.unsent() if m.type == LABEL_JOINED]


async def learn(made: Bench, sent: Sequence[Outgoing], *, offset: int) -> None:
    """Let the worker read joined labels as the relay sends them."""
    plain = run((PLACE[0], 0), [message.value for message in sent], offset=offset)
    with_headers = Run(
        partition=plain.partition,
        offsets=plain.offsets,
        keys=[message.key for message in sent],
        values=plain.values,
        headers=[message.headers for message in sent],
        timestamps_ms=plain.timestamps_ms,
    )
    await made.take(with_headers)


async def test_both_sides_become_labels_that_the_model_learns(settings: Settings) -> None:
    with bench(settings) as made:
        assert await made.reception.assigned([PLACE, MADE, SAID]) == {PLACE: 0, MADE: 0, SAID: 0}
        assert await give(made, SAID, verdicts(1))
        assert await give(made, MADE, predictions(1, 2, 3))
        assert await give(made, SAID, [*verdicts(2, verdict="wrong"), *verdicts(3, 3)], offset=1)
        labels = [GroundTruth.model_validate_json(message.value or b"") for message in owed(made)]
        assert [(truth.prediction_id, truth.label) for truth in labels] == [("p1", 1), ("p2", 0), ("p3", 1)]
        assert {truth.source for truth in labels} == {"feedback"}
        await learn(made, owed(made), offset=0)
        await made.reception.drain()
        newest = made.rooms.stores.log.metrics("m", newest=1)[0]
        assert (newest["learned"], newest["served"]["accuracy"]) == (3, pytest.approx(2 / 3))


async def test_labels_that_the_relay_sends_again_are_known_also_when_they_were_corrected(settings: Settings) -> None:
    with bench(settings) as made:
        await made.reception.assigned([PLACE, MADE, SAID])
        await give(made, MADE, predictions(1))
        await give(made, SAID, [*verdicts(1), *verdicts(1, verdict="wrong")])
        sent = owed(made)
        numbers = [dict(message.headers)[ORIGIN].decode().partition("/")[2] for message in sent]
        assert numbers == ["labels/0/0/0", "labels/0/1/0"]
        await learn(made, [*sent, *sent], offset=0)
        await made.reception.drain()
        (window,) = made.rooms.stores.log.windows("m")
        assert (window.header.counts.learned, window.header.counts.corrections) == (1, 1)
        assert window.header.counts.duplicates == 2


async def test_a_correction_of_a_label_that_is_forgotten_is_never_learned(settings: Settings) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        record = {"features": {"a": 1, "b": 2}, "label": 1, "prediction_id": "long ago", "corrects": True}
        await made.take(run_of([record, record]))
        await made.handler.drain()
        (window,) = made.rooms.stores.log.windows("m")
        counts = window.header.counts
        assert (counts.learned, counts.corrections, counts.duplicates) == (0, 1, 1)


async def test_bad_messages_are_dead_letters_and_their_neighbours_are_stored(settings: Settings) -> None:
    strange = [b"\xff", None, b"[1]", *predictions(1)]
    strange[3] = {**predictions(1)[0], "model": "n"}
    with bench(settings, max_bad_share=1.0, max_message_bytes=1_000) as made:
        await made.reception.assigned([MADE, SAID])
        array = orjson.dumps([*predictions(2), {**predictions(3)[0], "features": {"a": "x", "b": 1}}])
        await give(made, MADE, [*predictions(1), *strange, array, b"[" + b" " * 1_000 + b"]"])
        await give(made, SAID, [*verdicts(1), {"prediction_id": "p1", "verdict": "maybe"}])
        reasons = [(m.topic, dict(m.headers)["x-dlq-reason"], dict(m.headers).get("x-dlq-index")) for m in made.sent]
        assert sorted(reasons, key=str) == sorted(
            [
                ("predictions.dlq", b"not_json", None),
                ("predictions.dlq", b"tombstone", None),
                ("predictions.dlq", b"not_an_object", b"0"),
                ("predictions.dlq", b"unknown_model", None),
                ("predictions.dlq", b"wrong_type", b"1"),
                ("predictions.dlq", b"too_large", None),
                ("feedback.dlq", b"bad_verdict", None),
            ],
            key=str,
        )
        counts = made.rooms.predictions.counts()
        assert (counts["predictions"], counts["learned"]) == (2, 1)
        elsewhere = {place.topic: letters for place, (letters, _) in made.rooms.stores.partitions.counts().items()}
        assert elsewhere == {"predictions": 6, "feedback": 1}


async def test_what_was_taken_in_is_not_taken_again_after_a_restart(settings: Settings) -> None:
    with bench(settings, max_bad_share=1.0) as made:
        await made.reception.assigned([MADE, SAID])
        await give(made, MADE, [b"\xff", *predictions(1)])
        await give(made, SAID, verdicts(1, 1))
    with bench(settings, max_bad_share=1.0) as made:
        assert await made.reception.assigned([MADE, SAID]) == {MADE: 2, SAID: 2}
        await give(made, MADE, [b"\xff", *predictions(1)])
        await give(made, SAID, verdicts(1, 1, 1))
        assert made.sent == []
        assert made.rooms.predictions.counts()["duplicate"] == 2


async def test_dead_letters_that_cannot_be_delivered_store_nothing(settings: Settings) -> None:
    def away(_: Sequence[Outgoing]) -> None:
        raise Outage

    with bench(settings, deliver=away) as made:
        await made.reception.assigned([MADE])
        with pytest.raises(Outage):
            await give(made, MADE, [b"\xff", *predictions(1)])
        assert made.rooms.predictions.counts()["predictions"] == 0


async def test_a_second_owner_fences_the_first_which_leaves_unless_it_let_go(settings: Settings) -> None:
    with bench(settings) as first, bench(settings) as second:
        await first.reception.assigned([SAID])
        await second.reception.assigned([SAID])
        with pytest.raises(Fenced):
            await give(first, SAID, verdicts(1))
        await first.reception.revoked([SAID])
        assert not await give(first, SAID, verdicts(1))
        assert await give(second, SAID, verdicts(1))
        assert second.rooms.predictions.counts()["pending"] == 1


async def test_a_topic_of_nothing_but_poison_halts_its_partition(settings: Settings) -> None:
    with bench(settings) as made:
        await made.reception.assigned([MADE])
        with pytest.raises(TooManyBadRecords, match=r"predictions\[0\] below offset 200"):
            await give(made, MADE, [b"\xff"] * 200)
    with bench(settings) as made, pytest.raises(TooManyBadRecords):
        await made.reception.assigned([MADE])


async def test_feedback_without_prediction_is_a_dead_letter_once_it_waited_too_long(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    impatient = settings.model_copy(update={"join": settings.join.model_copy(update={"pending_s": 1e-9})})
    with bench(impatient) as made:
        await made.reception.assigned([SAID, MADE])
        await give(made, SAID, [{"prediction_id": "p1", "label": 1, "feedback_id": "mine", "given_at": NOW_S}])
        await made.reception.keep()
        (letter,) = made.sent
        assert (letter.topic, letter.key) == ("feedback.dlq", b"p1")
        assert dict(letter.headers)["x-dlq-reason"] == b"no_prediction"
        assert made.rooms.predictions.counts()["expired"] == 1
        await give(made, MADE, predictions(1))
        replayed = orjson.loads(letter.value or b"") | {"event_id": "dlq:x"}
        await give(made, SAID, [replayed], offset=1)
        assert made.rooms.predictions.counts()["learned"] == 1
