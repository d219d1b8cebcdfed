"""Asking for full retrains: with samples, which travel through the topic like any ground truth, or without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from stream_app.core.schema import Schema
from stream_app.errors import NotFound
from stream_app.job_ports import Samples
from stream_app.messages import GroundTruth
from stream_app.ports import Clock, Outgoing, Stores
from stream_app.serving import samples
from stream_app.serving.decoding import Value
from stream_app.serving.errors import Problem
from stream_app.values import Job, JobStatus, Partition

#: How a retrain came about that somebody asked for.
MANUAL: Final = "manual"
_BUSY: Final = (JobStatus.RUNNING, JobStatus.QUEUED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """How samples get to the log."""

    #: sends in order, and returns the offset behind the last message by (topic, partition); raises Outage
    send: Callable[[Sequence[Outgoing]], Mapping[tuple[str, int], int]]
    #: which topic of that name it is; raises Outage or NotFound
    incarnation: Callable[[str], str]
    #: name of the ground-truth topic
    topic: str


class Retrains:
    """Takes requests for retrains; blocks."""

    def __init__(
        self,
        stores: Stores,
        schemas: Mapping[str, Schema],
        post: Post,
        *,
        folder: Path,
        find: samples.FindPrediction,
        clock: Clock,
    ) -> None:
        """`folder` keeps the samples as they came; `find` returns a stored prediction."""
        self._stores = stores
        self._schemas = schemas
        self._post = post
        self._folder = folder
        self._find = find
        self._clock = clock

    def schema(self, model: str) -> Schema:
        """Return a model's schema; raises NotFound."""
        if model not in self._schemas:
            raise NotFound(f"no model {model[:64]!r}; expected one of: {', '.join(self._schemas)}")
        return self._schemas[model]

    def request(self, model: str) -> tuple[Job, bool]:
        """Queue a retrain on what the log holds; if one runs or waits already return it and False.

        Raises NotFound, and Problem 400 when there is nothing to learn from.
        """
        self.schema(model)
        busy = next((job for job in self._stores.jobs.history(model) if job.status in _BUSY), None)
        if busy is not None:
            return busy, False
        if self._rows(model) == 0:
            raise _failed(f"the log of model {model!r} holds no rows yet")
        return self._stores.jobs.request(model, MANUAL, now=self._clock())

    def with_samples(self, model: str, body: Value, *, most: int) -> tuple[Job, Samples]:
        """Take samples in and queue a retrain that waits until the log holds them.

        1. check all of them; 2. keep them as they came; 3. send them, and wait until the broker has them
        4. queue the retrain; one that is queued already waits for these too
        Raises NotFound, Problem 422 with nothing kept, Problem 400 for a disk that refuses, Outage.
        """
        good = samples.read(self.schema(model), body, find=self._find, most=most)  # 1
        self._rows(model)  # a database that is away is found out before anything is kept
        try:
            file = samples.keep(self._folder, body if isinstance(body, list) else [body], self._clock())  # 2
        except OSError as error:
            raise _failed(f"the samples cannot be kept in {self._folder}: {error.strerror}") from error
        try:
            end = self._send(model, good, file.stem)  # 3
        except BaseException:
            file.unlink(missing_ok=True)  # nothing half stored: whoever asks again sends them again
            raise
        taken = Samples(count=len(good), file=str(file), end=end)
        job, _ = self._stores.jobs.request(model, MANUAL, now=self._clock(), samples=taken)  # 4
        return job, taken

    def _send(self, model: str, good: Sequence[GroundTruth], name: str) -> Mapping[Partition, int]:
        messages = [
            Outgoing(topic=self._post.topic, key=model.encode(), value=_encoded(model, one, f"{name}:{i}"))
            for i, one in enumerate(good)
        ]
        incarnation = self._post.incarnation(self._post.topic)
        ends = self._post.send(messages)
        return {
            Partition(incarnation=incarnation, topic=topic, number=number): end for (topic, number), end in ends.items()
        }

    def _rows(self, model: str) -> int:
        seq = next((int(facts["seq"]) for facts in self._stores.registry.models() if facts["name"] == model), 0)
        return self._stores.log.rows_digest(model, through=seq)[0] if seq else 0


def _encoded(model: str, sample: GroundTruth, event_id: str) -> bytes:
    """Return the message; the id makes a delivery that the broker repeats one record."""
    message: dict[str, Any] = {"model": model, "features": sample.features, "label": sample.label}
    message |= {"event_id": sample.event_id or event_id, "source": sample.source}
    if sample.prediction_id is not None:
        message["prediction_id"] = sample.prediction_id
    if sample.served is not None:
        message["served"] = sample.served.model_dump(mode="json")
    return orjson.dumps(message)


def _failed(why: str) -> Problem:
    return Problem(400, f"Retraining process failed: {why}")
