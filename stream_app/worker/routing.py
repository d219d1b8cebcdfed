"""Which model a record belongs to, and where: pure sorting of one run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

import numpy as np

from stream_app.core.records import Batch
from stream_app.kafka.codec import Decoded, encode
from stream_app.ports import Outgoing
from stream_app.values import Run

#: Header of a forwarded record: "incarnation/topic/partition/offset/index" of where it first was.
ORIGIN: Final = "x-stream-app-origin"
#: Incarnations are base64 and may hold slashes. Lengths are bounded, and digits ASCII, so that whatever passes
#: fits the columns that marks are stored in: one that does not would stop each worker that reads it, for ever.
_WELL_FORMED: Final = re.compile(r"[!-~]{1,64}/[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}/[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A record of no model that we know."""

    position: int
    index: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The records of one run by what is to be done with them."""

    #: by model, in order: to be learned here
    batches: Mapping[str, Batch]
    #: (position in the run, message) of records whose home is elsewhere
    forwards: Sequence[tuple[int, Outgoing]]
    strays: Sequence[Stray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """Where records belong."""

    #: name of the ground-truth topic
    topic: str
    #: home partition by model
    homes: Mapping[str, int]
    #: model fed by each ingest topic
    ingest: Mapping[str, str]

    def fed(self, topic: str, number: int) -> Sequence[str]:
        """Return the models that live on a partition; all of them, when none does or records may be anybody's."""
        if topic in self.ingest:
            return [self.ingest[topic]]
        return [model for model, home in self.homes.items() if home == number] or list(self.homes)

    def route(self, run: Run, decoded: Decoded) -> Routed:
        """Sort the records of a run."""
        models = self._models(run, decoded)
        if len(set(models)) == 1 and self._is_home(run, models[0]):
            return Routed(batches={models[0]: _batch(run, decoded, None)}, forwards=(), strays=())
        groups: dict[str, list[int]] = {}
        for i, model in enumerate(models):
            groups.setdefault(model, []).append(i)
        here = {m: at for m, at in groups.items() if self._is_home(run, m)}
        known = sorted(i for m, at in groups.items() if m in self.homes and m not in here for i in at)
        strange = sorted(i for m, at in groups.items() if m not in self.homes for i in at)
        return Routed(
            batches={m: _batch(run, decoded, at) for m, at in here.items()},
            forwards=[(decoded.positions[i], self._forward(run, decoded, i, models[i])) for i in known],
            strays=[_stray(decoded, i, models[i]) for i in strange],
        )

    def _is_home(self, run: Run, model: str) -> bool:
        return run.partition.topic == self.topic and self.homes.get(model) == run.partition.number

    def _models(self, run: Run, decoded: Decoded) -> Sequence[str]:
        """Return the model that each record names: the ingest topic's, its own field, or the message key."""
        fed = self.ingest.get(run.partition.topic)
        if fed is not None:
            return [fed] * len(decoded.records)
        only = _only_model(decoded.records)
        if only is not None:
            return [only] * len(decoded.records)
        named = [record.get("model") for record in decoded.records]
        if not any(named) and len(set(run.keys)) == 1:
            return [_text(run.keys[0])] * len(named)
        keys = [_text(run.keys[position]) for position in decoded.positions]
        return [name if isinstance(name, str) else key for name, key in zip(named, keys, strict=True)]

    def _forward(self, run: Run, decoded: Decoded, i: int, model: str) -> Outgoing:
        """Return the record as it goes to its model's home, with its origin unless it carries one already.

        The first origin stays: a record forwarded twice would otherwise look new to its model.
        """
        position, index = decoded.positions[i], decoded.indexes[i]
        place = run.partition
        here = f"{place.incarnation}/{place.topic}/{place.number}/{run.offsets[position]}/{index}"
        theirs = tuple(run.headers[position])
        origin = () if _header(theirs, ORIGIN) else ((ORIGIN, here.encode()),)
        value = run.values[position] if is_alone(run, position) else encode(decoded.records[i])
        return Outgoing(
            topic=self.topic,
            key=model.encode(),
            value=value,
            headers=(*theirs, *origin),
            partition=self.homes[model],
            timestamp_ms=run.timestamps_ms[position],
        )


def _only_model(records: Sequence[Mapping[str, object]]) -> str | None:
    """Return the model that every record names in its field, None if that is not one and the same."""
    try:
        found = set(map(itemgetter("model"), records))
    except (KeyError, TypeError):  # absent, or nothing that could be a name
        return None
    name = found.pop() if len(found) == 1 else None
    return name if isinstance(name, str) else None


def _batch(run: Run, decoded: Decoded, chosen: Sequence[int] | None) -> Batch:
    positions = np.array(decoded.positions, dtype=np.int64)
    batch = Batch(
        partition=run.partition,
        records=decoded.records,
        offsets=np.array(run.offsets, dtype=np.int64)[positions],
        indexes=np.array(decoded.indexes, dtype=np.int64),
        timestamps_ms=np.array(run.timestamps_ms, dtype=np.int64)[positions],
        origins=_origins(run, decoded),
    )
    return batch if chosen is None else batch.take(chosen)


def _origins(run: Run, decoded: Decoded) -> Sequence[str | None] | None:
    if not any(run.headers):
        return None
    found = [_origin(headers) for headers in run.headers]
    return [found[position] for position in decoded.positions] if any(found) else None


def _origin(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """Return a well-formed origin, None for anything else: a forged one must not stop the worker."""
    text = _text(_header(headers, ORIGIN))
    return text if _WELL_FORMED.fullmatch(text) else None


def _header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    return next((value for n, value in headers if n == name), None)


def is_alone(run: Run, position: int) -> bool:
    """Return whether the message is one record and not an array of them."""
    value = run.values[position]
    return value is not None and value.lstrip()[:1] == b"{"


def _stray(decoded: Decoded, i: int, model: str) -> Stray:
    detail = f"model {model[:64]!r} is not in the settings" if model else "neither key nor field 'model' names a model"
    return Stray(position=decoded.positions[i], index=decoded.indexes[i], detail=detail)


def _text(key: bytes | None) -> str:
    return "" if key is None else key.decode("utf-8", "replace")
