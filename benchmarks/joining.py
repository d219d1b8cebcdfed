"""Predictions and their labels at a steady rate: are they stored and joined as fast as they come?

`python -m benchmarks.joining --seconds 60 --rate 5000` prints one JSON object. Both sides are sent over a real broker
to one worker on SQLite; each second the database is asked how far it has come, by another process than the worker.
"""

import argparse
import json
import random
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import orjson
import pandas as pd
from confluent_kafka import Producer

from benchmarks import broker, rows, worker

#: What is asked for: so many predictions a second, stored and joined.
WANTED: Final = 5_000.0
#: Feedback follows its prediction by up to so many seconds.
LONGEST_DELAY_S: Final = 2.0
#: Parts of a second in which records are handed to the producer.
SLICES: Final = 20
#: A lag is said to grow when it is this much longer at the end than in the middle: windows alone make it vary.
GROWN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the database said at one moment."""

    at: float
    sent: int
    stored: int
    joined: int
    learned: int

    def lag_s(self, rate: float) -> float:
        """Return how long ago the newest learned label was sent, at a steady rate."""
        return (self.sent - self.learned) / rate


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what was found."""
    options = _parsed(arguments)
    with ExitStack() as stack:
        bootstrap = stack.enter_context(broker.running())
        topic = stack.enter_context(broker.filled(bootstrap, 0))
        site = stack.enter_context(worker.site(bootstrap, topic))
        process = stack.enter_context(site.process("worker"))
        worker.wait_until(process, lambda: worker.is_ready(site.worker_port), what="ready")
        feed = Feed(bootstrap, topic)
        looks = list(_watched(feed, site.database, options.seconds, options.rate))
        finish_s = _finished(feed, site, process)
        cpu = process.cpu_times()
    summary = _summary(looks, finish_s, options.rate)
    # what the worker needs of one core, start included: says more than rates where others use the machine as well
    summary["worker_cpu_us_per_prediction"] = round((cpu.user + cpu.system) / feed.sent * 1e6)
    print(json.dumps(summary, indent=2))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joining", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="default: 60")
    parser.add_argument("--rate", type=float, default=WANTED, help="predictions a second; default: 5000")
    return parser.parse_args(arguments)


class Feed:
    """Sends both sides at a steady rate; feedback comes late and out of order, one in ten before its prediction."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._rng = random.Random(1)  # noqa: S311 - a shuffle that is the same each time
        self._heads = _heads()
        self._run = uuid.uuid4().hex[:8]
        self._late: list[tuple[float, bytes]] = []
        options = {**broker.options(bootstrap), "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
        self._producer = Producer(options)
        #: predictions sent so far
        self.sent = 0

    def send(self, until: int) -> None:
        """Send predictions up to that number, and the feedback that is due."""
        now = time.time()
        while self.sent < until:
            id_ = b"%s-%d" % (self._run.encode(), self.sent)
            value = b'{"prediction_id":"%s","served_at":%.3f,%s' % (id_, now, next(self._heads))
            early = self._rng.random() < 0.1  # noqa: PLR2004 - see the class
            delay_s = 0.0 if early else self._rng.random() * LONGEST_DELAY_S
            if early:
                self._say(id_)
            self._put("predictions", id_, value)
            if not early:
                self._late.append((now + delay_s, id_))
            self.sent += 1
        self._say_due(now)
        self._producer.poll(0)

    def finish(self) -> None:
        """Send what is left."""
        self._say_due(float("inf"))
        if self._producer.flush(broker.FLUSH_S):
            raise SystemExit("bench: the broker did not take everything")

    def _say_due(self, now: float) -> None:
        due = [id_ for at, id_ in self._late if at <= now]
        self._late = [each for each in self._late if each[0] > now]
        for id_ in due:
            self._say(id_)

    def _say(self, id_: bytes) -> None:
        verdict = b"correct" if self._rng.random() < 0.5 else b"wrong"  # noqa: PLR2004 - a coin
        self._put("feedback", id_, b'{"prediction_id":"%s","verdict":"%s"}' % (id_, verdict))

    def _put(self, side: str, key: bytes, value: bytes) -> None:
        self._producer.produce(f"{self._topic}-{side}", value=value, key=key)


def _heads() -> Iterator[bytes]:
    """Yield, for ever, what follows id and time in a prediction."""
    frame = pd.read_csv(rows.FILE)
    frame.pop(rows.TARGET)
    served = {"version": "1.1", "output": 0.625, "digest": "ab" * 32, "known_label": 0}
    return cycle(
        [
            orjson.dumps({"model": rows.MODEL, "features": features, "served": served, "label": 1})[1:]
            for features in frame.to_dict("records")
        ]
    )


def _watched(feed: Feed, database: Path, seconds: int, rate: float) -> Iterator[Look]:
    """Feed for so long at that rate, and yield a look each second."""
    began = time.time()
    for slice_ in range(seconds * SLICES):
        feed.send(round((slice_ + 1) * rate / SLICES))
        if (slice_ + 1) % SLICES == 0:
            yield _look(database, feed.sent)
        time.sleep(max(0.0, began + (slice_ + 1) / SLICES - time.time()))


def _finished(feed: Feed, site: worker.Site, process: Any) -> float:  # noqa: ANN401 - psutil has no types
    """Wait until everything is learned and return how long that took after the last record was sent."""
    feed.finish()
    began = time.time()
    end = worker.wait_until(
        process, lambda: _look(site.database, feed.sent).learned >= feed.sent, what="the last label"
    )
    return end - began


def _look(database: Path, sent: int) -> Look:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        one = "SELECT coalesce((%s), 0)"
        offsets = "SELECT sum(next_offset) FROM partition_positions WHERE topic LIKE '%-predictions'"
        total = "SELECT rows_total FROM windows ORDER BY seq DESC LIMIT 1"
        queries = (offsets, "SELECT sum(handed_on) FROM label_origins", total)
        stored, joined, learned = (connection.execute(one % query).fetchone()[0] for query in queries)
    return Look(at=time.time(), sent=sent, stored=stored, joined=joined, learned=learned)


def _summary(looks: Sequence[Look], finish_s: float, rate: float) -> dict[str, Any]:
    first, last = looks[0], looks[-1]
    third = max(1, len(looks) // 3)
    middle = [look.lag_s(rate) for look in looks[third:-third] or looks]
    end = [look.lag_s(rate) for look in looks[-third:]]
    # over everything: what was sent, until the last of it was learned
    sustained = last.sent / (last.at - first.at + 1 + finish_s)
    grew = sum(end) / len(end) - sum(middle) / len(middle)
    return {
        "offered_per_s": rate,
        "seconds": len(looks),
        "predictions": last.sent,
        "stored_per_s": round((last.stored - first.stored) / max(1e-9, last.at - first.at)),
        "joined_per_s": round((last.joined - first.joined) / max(1e-9, last.at - first.at)),
        "learned_per_s": round((last.learned - first.learned) / max(1e-9, last.at - first.at)),
        "sustained_per_s": round(sustained),
        "of_wanted": round(sustained / WANTED, 3),
        "lag_s": {"middle": round(sum(middle) / len(middle), 2), "end": round(sum(end) / len(end), 2)},
        "finish_s": round(finish_s, 2),
        "lag_grew": grew > GROWN_S,
    }


if __name__ == "__main__":
    sys.exit(main())
