"""A poisoned stream: nothing of it is learned, all of it is kept, its neighbours are none the wiser."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stream_app.errors import TooManyBadRecords
from stream_app.kafka.codec import decode
from stream_app.kafka.dead_letters import KEPT
from stream_app.kafka.graveyard import Selection, replay
from stream_app.kafka.letters import Letter
from stream_app.messages import DEADLETTER_LIMIT, LearningEvent
from stream_app.ports import Outgoing
from stream_app.settings import Settings
from stream_app.values import Run
from stream_app.worker.routing import ORIGIN
from tests.contract.poisons import FORGED, GOOD, MODEL, POISONS
from tests.contract.proofs import feed, learn, probe_hash, proved, steady
from tests.contract.working import PLACE, TOPIC, Bench, bench, run_of

#: Largest message that is accepted, as by default.
LARGEST = 1_048_576
NAMES = list(POISONS)


def good(n: int) -> list[dict[str, Any]]:
    plans = ("basic", "gold")
    return [
        {"event_id": f"good{i}", "a": i % 37 / 3, "b": i * i % 11, "plan": plans[i % 2], "y": int(i % 37 > 18)}
        for i in range(n)
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return steady(tmp_path, **MODEL)


@contextmanager
def opened(settings: Settings) -> Iterator[Bench]:
    with bench(settings, max_message_bytes=LARGEST) as made:
        yield made


def stream() -> list[Any]:
    """Return one message in ten poisoned: every kind once, each after nine good records."""
    clean = good(9 * len(POISONS))
    return [m for i, name in enumerate(NAMES) for m in (*clean[9 * i : 9 * i + 9], POISONS[name][0])]


def header(message: Outgoing, name: str) -> str:
    (found,) = [value for n, value in message.headers if n == name]
    return found.decode()


def by_offset(sent: Sequence[Outgoing]) -> dict[int, Outgoing]:
    """Return the dead letters by where their records lay; no record may have two."""
    letters = {int(header(m, "__connect.errors.offset")): m for m in sent}
    assert len(letters) == len(sent)
    return letters


@pytest.mark.parametrize("run", [1, 64, 1000])
async def test_poison_is_kept_with_its_reason_and_not_learned(settings: Settings, tmp_path: Path, run: int) -> None:
    expected = await learn(steady(tmp_path / "clean", **MODEL), good(9 * len(POISONS)))
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        await feed(made, stream(), run=run)
        await made.handler.drain()
        assert probe_hash(made) == expected
        found = proved(made)
        elsewhere = sum(letters for letters, _ in made.rooms.stores.partitions.counts().values())
        assert found.counts["learned"] == found.rows == 9 * len(POISONS)
        assert found.counts["dead_lettered"] + elsewhere == len(POISONS)
        ids = made.rooms.stores.log.table("m")["event_id"].to_pylist()
        assert ids == [record["event_id"] for record in good(9 * len(POISONS))]
        letters = by_offset(made.sent)
        reasons = {NAMES[at // 10]: header(letter, "x-dlq-reason") for at, letter in letters.items()}
        assert reasons == {name: reason for name, (_, reason) in POISONS.items()}


async def test_what_is_kept_is_the_message_itself_or_its_digest_and_beginning(settings: Settings) -> None:
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        await feed(made, stream())
        for at, letter in by_offset(made.sent).items():
            value = POISONS[NAMES[at // 10]][0]
            assert (letter.topic, letter.key) == ("ground-truth.dlq", b"m")
            if value is not None and len(value) > LARGEST:
                assert letter.value == value[:KEPT]
                assert header(letter, "x-dlq-sha256") == sha256(value).hexdigest()
            else:
                assert letter.value == value


async def test_a_bad_element_of_an_array_is_kept_with_its_index_and_the_others_are_learned(settings: Settings) -> None:
    first, second = good(2)
    message = b"[%s,%s,%s,7]" % tuple(run_of([r]).values[0] or b"" for r in (first, {"a": "?", "y": 1}, second))
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        await feed(made, [message])
        await made.handler.drain()
        assert proved(made).counts["learned"] == 2
        assert {header(m, "x-dlq-index"): header(m, "x-dlq-reason") for m in made.sent} == {
            "1": "wrong_type",
            "3": "not_an_object",
        }
        assert {m.value for m in made.sent} == {message}


def letters_of(sent: Sequence[Outgoing]) -> list[Letter]:
    """Return what was delivered as it lies in the dead-letter topic."""
    return [
        Letter(topic=m.topic, partition=0, offset=at, key=m.key, value=m.value, headers=m.headers)
        for at, m in enumerate(sent)
    ]


def run_again(messages: Sequence[Outgoing], offset: int) -> Run:
    """Return delivered messages as their topic hands them out again."""
    run = run_of([m.value for m in messages], offset=offset)
    return replace(run, keys=[m.key for m in messages], headers=[m.headers for m in messages])


def resurrected(letters: Sequence[Letter], corrections: dict[Any, bytes] | None = None) -> list[Outgoing]:
    sent: list[Outgoing] = []
    outcomes = list(replay(letters, Selection(corrections=corrections), [TOPIC], sent.extend, limit=None))
    assert len(outcomes) == len(letters)
    return sent


async def test_corrected_records_are_learned_once_however_often_they_are_replayed(settings: Settings) -> None:
    """Also across a restart, and none takes the place of another, though no producer gave them ids."""
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        at = await feed(made, stream())
        await made.handler.drain()
        letters = letters_of(made.sent)
    mended = {letter.place: run_of([GOOD]).values[0] or b"" for letter in letters}
    for _ in range(2):
        with opened(settings) as made:
            await made.handler.assigned([PLACE])
            again = resurrected(letters, mended)
            await made.take(run_again(again, at))
            at += len(again)
            await made.handler.drain()
            assert made.sent == []
            counts = proved(made).counts
    assert counts["learned"] == 10 * len(POISONS)
    assert counts["duplicates"] == len(POISONS)


async def test_letters_replayed_as_they_are_come_back_with_the_same_reason_and_one_attempt_more(
    settings: Settings,
) -> None:
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        at = await feed(made, stream())
        letters = [each for each in letters_of(made.sent) if each.header("x-dlq-reason") in {"wrong_type", "bad_time"}]
        whole = [each for each in letters if each.value != POISONS["deep field"][0]]  # not to be written again
        again = resurrected(whole)
        made.sent.clear()
        await made.take(run_again(again, at))
        assert [header(m, "x-dlq-reason") for m in made.sent] == [each.header("x-dlq-reason") for each in whole]
        assert [m.value for m in made.sent] == [m.value for m in again]
        assert {header(m, "x-dlq-attempts") for m in made.sent} == {"1"}


async def test_an_element_too_deep_to_be_written_again_does_not_stop_a_forwarder(settings: Settings) -> None:
    raw, deep = ("raw", 0), POISONS["deep field"][0] or b""
    first = run_of(good(1)).values[0] or b""
    with opened(settings) as made:
        await made.handler.assigned([raw])
        await made.take(run_of([b"[%s,%s]" % (deep, first), b"[%s]" % deep, deep], topic="raw", key=None))
        await made.handler.drain()
        assert [m.value for m in made.sent if m.topic == TOPIC] == [first, deep]
        assert [header(m, "x-dlq-reason") for m in made.sent if m.topic == "raw.dlq"] == ["too_large"] * 2


async def test_a_forged_origin_is_no_origin(settings: Settings) -> None:
    """It must neither stop the worker, again and again, nor keep the record from being learned."""
    messages = run_of(good(len(FORGED)))
    forged = replace(messages, headers=[((ORIGIN, origin.encode()),) for origin in FORGED])
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        await made.take(forged)
        await made.handler.drain()
        assert proved(made).counts["learned"] == len(FORGED)
        assert made.sent == []


def test_of_a_key_that_comes_twice_the_last_value_counts() -> None:
    """A stricter parser would cost a quarter of the parsing; what is learned is what is in the log, either way."""
    decoded = decode(run_of([b'{"a":1,"a":2}']), max_message_bytes=LARGEST)
    assert decoded.records == [{"a": 2}]


@pytest.mark.parametrize("poison", ["garbage", "unknown class", "unknown model"])
async def test_a_stream_of_nothing_but_poison_stops_the_worker_and_says_what_to_do(
    settings: Settings, poison: str
) -> None:
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        with pytest.raises(TooManyBadRecords, match=r"100% .* ground-truth\[0\] .*dlq list.*mend the producer"):
            await feed(made, [POISONS[poison][0]] * 1000)
        assert 100 <= len(made.sent) < 200


@pytest.mark.parametrize("poison", ["garbage", "unknown class", "unknown model"])
async def test_a_halt_survives_restarts_and_nothing_is_delivered_twice_until_the_limit_is_raised(
    settings: Settings, poison: str
) -> None:
    stream = [*good(40), *[POISONS[poison][0]] * 500, *good(60)[40:]]
    graveyard: list[Outgoing] = []
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        with pytest.raises(TooManyBadRecords):
            await feed(made, stream)
        stopped_at = len(made.sent)
        await made.take(run_of(stream[300:330], offset=300))  # a run that was queued
        assert len(made.sent) == stopped_at < 200
        assert made.acknowledged[-1] == 40 + stopped_at - 1
        graveyard += made.sent
    for _ in range(3):
        with opened(settings) as made:
            with pytest.raises(TooManyBadRecords, match=r"max_share to at least \d.*it stays stopped until then"):
                await made.handler.assigned([PLACE])
            assert made.sent == []
            assert [m.type for m in made.rooms.stores.outbox.unsent()].count(DEADLETTER_LIMIT) == 1
    with bench(settings, max_message_bytes=LARGEST, max_bad_share=1.0) as made:
        start = (await made.handler.assigned([PLACE]))[PLACE]
        await feed(made, stream[start:], offset=start)
        await made.handler.drain()
        graveyard += made.sent
        assert proved(made).counts["learned"] == 60
    assert sorted(by_offset(graveyard)) == list(range(40, 540))
    with opened(settings) as made:
        await made.handler.assigned([PLACE])  # resumed: the limit may be lowered again


async def test_a_halt_is_told_with_the_number_that_lets_the_partition_pass(settings: Settings) -> None:
    bad = POISONS["unknown class"][0]
    stream = [m for record in good(90) for m in (record, bad, bad)]
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        with pytest.raises(TooManyBadRecords, match=r"67% .* least 0\.667 to read on"):
            await feed(made, stream)
        (event,) = [m for m in made.rooms.stores.outbox.unsent() if m.type == DEADLETTER_LIMIT]
        told = LearningEvent.model_validate_json(event.value)
    assert (event.topic, event.key, told.model, told.seq) == ("learning-events", b"m", "m", None)
    assert told.details == {
        "topic": TOPIC,
        "partition": 0,
        "offset": 120,
        "share": pytest.approx(2 / 3),
        "max_share": 0.5,
        "over_records": 100,
    }
    with bench(settings, max_bad_share=0.667, max_message_bytes=LARGEST) as made:
        assert await made.handler.assigned([PLACE]) == {PLACE: 120}


async def test_a_stream_that_is_bad_in_part_goes_on(settings: Settings) -> None:
    clean = good(300)
    with opened(settings) as made:
        await made.handler.assigned([PLACE])
        await feed(made, [m for record in clean for m in (record, *[b"?"] * (int(record["b"]) % 2))])
        await made.handler.drain()
        assert proved(made).counts["learned"] == 300
