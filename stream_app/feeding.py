"""Sending the rows of a file as labelled records, at a steady rate."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import orjson
import pandas as pd
from pandas.api.types import is_float_dtype

from stream_app.datafiles import CHUNK_ROWS, chunks
from stream_app.errors import Misconfigured
from stream_app.model_settings import ModelSettings
from stream_app.ports import Deliver, Outgoing

Record: TypeAlias = dict[str, Any]

#: Columns that belong beside the features of an envelope, not among them.
BESIDE: Final[tuple[str, ...]] = ("event_id", "prediction_id", "occurred_at", "source")
#: At a given rate this many deliveries a second are made.
TICKS: Final = 10


class Form(StrEnum):
    """How a record is laid out."""

    #: {"features": {…}, "label": …}
    ENVELOPE = "envelope"
    #: {feature: …, target: …}
    FLAT = "flat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What to send, and as what."""

    path: Path
    #: name of the model, the key of every message
    name: str
    model: ModelSettings
    topic: str
    form: Form
    #: whether to add "<file>:<row>" as event id, so that sending a file twice teaches it once
    numbered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a feed has come."""

    #: records acknowledged by the broker
    sent: int
    #: rows without a label
    skipped: int
    #: share of the file, 0 to 1
    share: float


def send(
    feed: Feed, deliver: Deliver, *, rate: float | None, limit: int | None, report: Callable[[Progress], None]
) -> Progress:
    """Deliver the records in order, at most `rate` a second and `limit` in all; report after each delivery.

    Raises Misconfigured for a file that cannot be read or that `check` refuses, Outage when Kafka is away.
    """
    size = CHUNK_ROWS if rate is None else max(1, int(rate / TICKS))
    progress = Progress(sent=0, skipped=0, share=0.0)
    check(feed)
    started = time.monotonic()
    for messages, skipped, share in batches(feed, size, limit):
        if rate is not None:
            time.sleep(max(0.0, started + progress.sent / rate - time.monotonic()))
        deliver(messages)
        progress = Progress(sent=progress.sent + len(messages), skipped=progress.skipped + skipped, share=share)
        report(progress)
    return progress


def batches(feed: Feed, size: int, limit: int | None) -> Iterator[tuple[list[Outgoing], int, float]]:
    """Yield at most `size` messages at a time, with the number of rows left out for want of a label."""
    texts = [name for name, feature in feed.model.features.items() if feature.type == "category"]
    if feed.model.classes and all(isinstance(label, str) for label in feed.model.classes):
        texts.append(feed.model.target)
    row, left = 0, limit
    for chunk in chunks(feed.path, rows=size, texts=texts):
        numbers = range(row + 1, row + len(chunk.frame) + 1)
        row = numbers.stop - 1
        records = [
            (n, r) for n, r in zip(numbers, rows(chunk.frame), strict=True) if r.get(feed.model.target) is not None
        ]
        chosen = records[:left]
        yield [_message(feed, n, r) for n, r in chosen], len(numbers) - len(records), chunk.share
        left = None if left is None else left - len(chosen)
        if left == 0:
            return


def check(feed: Feed) -> None:
    """Raise Misconfigured unless the file has a column for the target and each feature that the model requires.

    Looks at the first rows: without this, each record would be sent, and dead-lettered one by one.
    """
    chunk = next(chunks(feed.path), None)
    present = [] if chunk is None else [str(name) for name in chunk.frame.columns]
    required = [name for name, feature in feed.model.features.items() if feature.required]
    missing = [name for name in (*required, feed.model.target) if name not in present]
    if missing:
        raise Misconfigured(
            f"{feed.path}: no column {', '.join(map(repr, missing))}, which model {feed.name!r} requires; "
            f"it has {', '.join(present) or 'none'}"
        )


def rows(frame: pd.DataFrame) -> list[Record]:
    """Return the rows as JSON-able records; an absent value is None, an infinite one its name as text.

    JSON has no infinity, and null would pass for a value that is merely missing.
    """
    plain = frame.astype(object).where(frame.notna(), None)
    for name in [name for name in frame.columns if is_float_dtype(frame[name])]:
        infinite = np.isinf(frame[name])
        plain.loc[infinite, name] = frame.loc[infinite, name].map(str)
    return [dict(zip(plain.columns, row, strict=True)) for row in plain.itertuples(index=False, name=None)]


def _message(feed: Feed, number: int, row: Record) -> Outgoing:
    record = row if feed.form is Form.FLAT else _envelope(feed, row)
    if feed.numbered:
        record = {"event_id": f"{feed.path.name}:{number}", **record}
    return Outgoing(topic=feed.topic, key=feed.name.encode(), value=orjson.dumps(record, default=str))


def _envelope(feed: Feed, row: Record) -> Record:
    beside = {name: row.pop(name) for name in BESIDE if name in row and name not in feed.model.features}
    label = row.pop(feed.model.target)
    given = {name: value for name, value in beside.items() if value is not None}
    return {"model": feed.name, "features": row, "label": label, **given}
