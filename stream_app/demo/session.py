"""The demo from start to summary: broker, processes, stream, kill, recovery, proof."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from stream_app.core.triggers import Fire, policy_of
from stream_app.demo.driver import Course, Driver, Telling, course_of
from stream_app.demo.examples import poison
from stream_app.demo.view import Picture, Point, measure_of
from stream_app.errors import Outage
from stream_app.model_settings import ModelSettings
from stream_app.ports import ENDED, Deliver, Stores
from stream_app.settings import Settings
from stream_app.storage.retrain_state import retrain_state
from stream_app.subscriber import LoadedModel, ModelSubscriber, Prediction
from stream_app.supervisor import Child
from stream_app.values import JobStatus, Task
from stream_app.worker.audit import Audit

#: How long the worker may take for what is left when the stream has ended.
FINISH_S: Final = 60.0
#: How long the trainer may take for a retrain that is under way then.
RETRAIN_S: Final = 120.0
LOOK_S: Final = 0.2


@dataclass(slots=True)
class Session:
    """One run of the demo against processes that are already started."""

    #: name of the one model of the settings
    name: str
    settings: Settings
    stores: Stores
    subscriber: ModelSubscriber
    worker: Child
    rows: Sequence[Mapping[str, Any]]
    deliver: Deliver
    paced: bool
    picture: Picture = field(init=False)
    driver: Driver = field(init=False)
    course: Course = field(init=False)
    kills: int = 0
    #: (time, newest window learned) of each swap
    swaps: list[tuple[float, int]] = field(default_factory=list)
    _started: float = 0.0
    _failure: BaseException | None = None
    _seen: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the picture and the driver."""
        model, self.course = self.model, course_of(len(self.rows))
        measure, delay = measure_of(model.task), self.course.label_delay
        self.picture = Picture(example=self.name, measure=measure, total=len(self.rows), label_delay=delay)
        tell = Telling(course=self.course, poison=poison(model, self.rows[0]))
        self.driver = Driver(self.name, self.rows, model.target, tell=tell, ask=self._ask, deliver=self.deliver)
        self.subscriber.on_swap(self._swapped)

    @property
    def model(self) -> ModelSettings:
        """The model's settings, its features filled in."""
        return self.settings.models[self.name]

    def run(self, show: Callable[[Picture], None]) -> None:
        """Stream everything, killing the worker once in the middle, and wait until all of it is learned."""
        self._started = time.time()
        stream = threading.Thread(target=self._stream, name="demo-stream", daemon=True)
        stream.start()
        while stream.is_alive():
            self._look()
            show(self.picture)
            self._kill_in_the_middle()
            stream.join(LOOK_S)
        if self._failure is not None:
            raise self._failure
        self._finish(show)

    def _stream(self) -> None:
        try:
            topic = self.settings.kafka.topics.ground_truth
            for predicted in self.driver.steps(topic):
                self.picture.predicted = predicted
                self._pace(predicted)
        except BaseException as error:  # noqa: BLE001 - told by `run`, in the main thread
            self._failure = error

    def _pace(self, predicted: int) -> None:
        ahead_s = predicted / self.course.rate - (time.time() - self._started)
        if self.paced and ahead_s > 0:
            time.sleep(ahead_s)
        for _ in self._waiting(FINISH_S, "the worker does not keep up", every_s=LOOK_S / 4):
            if self.driver.sent.total - self._taken_in() < self.course.most_ahead:
                return

    def _ask(self, features: Sequence[Mapping[str, Any]]) -> Sequence[Prediction] | None:
        if self.subscriber.current(self.name) is None:
            return None
        return self.subscriber.predict(self.name, features)

    def _taken_in(self) -> int:
        """Return the number of messages of our one partition that the log has dealt with."""
        return max(self.stores.log.positions(self.name).values(), default=0)

    def _kill_in_the_middle(self) -> None:
        if not self.kills and self.picture.predicted >= len(self.rows) // 2:
            self.worker.kill()
            self.kills = 1
            self.picture.note(self._now(), "kill", "worker ended with kill -9; it recovers from its log")

    def _finish(self, show: Callable[[Picture], None]) -> None:
        self._until(self._is_taken_in, show, FINISH_S, "the worker did not finish the stream")
        self._until(self._has_retrained, show, RETRAIN_S, "the trainer did not finish its retrain")

    def _until(
        self, is_done: Callable[[], bool], show: Callable[[Picture], None], limit_s: float, complaint: str
    ) -> None:
        for _ in self._waiting(limit_s, complaint, every_s=LOOK_S):
            self._look()
            show(self.picture)
            if is_done():
                return

    def _is_taken_in(self) -> bool:
        return self._taken_in() >= self.driver.sent.total

    def _has_retrained(self) -> bool:
        """Return whether no retrain is under way; a small set may have ended before the trainer saw its first due."""
        history = self.stores.jobs.history(self.name)
        if history:
            return all(job.status in ENDED for job in history)
        [facts] = self.stores.registry.models()
        state = retrain_state(self.stores, facts, history)
        return not isinstance(policy_of(self.model.retrain).decide(state, time.time()), Fire)

    @staticmethod
    def _waiting(limit_s: float, complaint: str, *, every_s: float) -> Iterator[int]:
        deadline = time.monotonic() + limit_s
        for turn in itertools.count():
            if time.monotonic() > deadline:
                raise Outage(f"{complaint} within {limit_s:g} s; its log is on standard error")
            if turn:
                time.sleep(every_s)
            yield turn

    def _now(self) -> float:
        return time.time() - self._started

    def _swapped(self, loaded: LoadedModel) -> None:
        self.swaps.append((time.time(), loaded.trained_through_seq))
        if loaded.version.partition(".")[0] != self._seen.get("serving"):
            self._seen["serving"] = loaded.version.partition(".")[0]
            self.picture.note(self._now(), "reload", f"now serving version {loaded.version}, {loaded.algorithm}")

    def _look(self) -> None:
        """Read what is new from the database."""
        newest = self.stores.log.metrics(self.name, newest=1)
        if newest:
            self._add_point(newest[0])
            self._note_drift(newest[0])
        for job in reversed(self.stores.jobs.history(self.name)):
            if self._seen.get(f"job {job.id}") != job.status:
                self._seen[f"job {job.id}"] = job.status
                self._note_job(job.id, job.trigger, job.status, job.reason)

    def _add_point(self, metrics: Mapping[str, Any]) -> None:
        status, sent = self.subscriber.status()[self.name], self.driver.sent
        served, baselines = metrics["served"], metrics["baselines"]
        score = f"rolling_{self.picture.measure.score}"
        self.picture.points.append(
            Point(
                at_s=self._now(),
                learned=metrics["learned"],
                served=served.get(score),
                no_change=baselines["served_no_change"].get(score),
                online=metrics["prequential"].get(score),
                freshness_s=status.freshness_s,
            )
        )
        self.picture.facts |= {
            "learned": f"{metrics['learned']:,} rows in {metrics['seq']:,} windows",
            "serving": f"version {status.version}, {status.reloads} reloads, refused {status.refused}",
            "freshness": "" if status.freshness_s is None else f"{status.freshness_s:.2f} s",
            "sent": f"{sent.total:,}, poison {sent.poison}, repeats {sent.duplicates}",
            "drifts": f"{metrics['drifts']}",
        }

    def _note_drift(self, metrics: Mapping[str, Any]) -> None:
        if metrics["drifts"] > self._seen.get("drifts", 0):
            self._seen["drifts"] = metrics["drifts"]
            self.picture.note(self._now(), "drift", f"the online error changed (number {metrics['drifts']})")

    def _note_job(self, number: int, trigger: str, status: JobStatus, reason: str) -> None:
        self.picture.note(self._now(), "retrain", f"job {number} ({trigger}): {status.value} {reason}")


def summary(session: Session, audit: Audit) -> dict[str, Any]:
    """Return what the demo proved."""
    sent, stores = session.driver.sent, session.stores
    [newest] = stores.log.metrics(session.name, newest=1)
    elsewhere = [counts["dead_lettered"] for counts in audit.elsewhere.values()]
    freshness = _freshness(session, stores.log.metrics(session.name))
    ended = [
        job for job in stores.jobs.history(session.name) if job.status in {JobStatus.SUCCEEDED, JobStatus.REJECTED}
    ]
    return {
        "records_sent": sent.total,
        "records_learned": audit.counts["learned"],
        "records_dead_lettered": audit.counts["dead_lettered"] + sum(elsewhere),
        "duplicates_skipped": audit.counts["duplicates"],
        "windows": audit.windows,
        "versions": len(stores.registry.versions(session.name)),
        "promotions": audit.promotions,
        "retrains_decided": len(ended),
        "drifts": audit.drifts,
        "reloads": session.subscriber.status()[session.name].reloads,
        "kills": session.kills,
        "label_delay_records": session.course.label_delay,
        **_scores(session.model.task, newest),
        "freshness_p50_s": None if not len(freshness) else round(float(np.quantile(freshness, 0.5)), 3),
        "freshness_p95_s": None if not len(freshness) else round(float(np.quantile(freshness, 0.95)), 3),
        "probe_hash_live": audit.probe_hash_live,
        "probe_hash_replayed": audit.probe_hash_replayed,
        "log_verified": audit.ok,
        "seconds": round(session.picture.points[-1].at_s, 1) if session.picture.points else None,
    }


def _scores(task: Task, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was served beside the baseline, both over the rows whose predictions were served."""
    served, no_change = metrics["served"], metrics["baselines"]["served_no_change"]
    names = ("mae", "rmse") if task is Task.REGRESSION else ("accuracy",)
    return {
        f"{name}_{who}": scores[name]
        for name in names
        for who, scores in (("served", served), ("no_change", no_change))
    }


def _freshness(session: Session, metrics: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return, for each learned row, the seconds from sending its label to serving a model that knows it.

    Only swaps to a newer state count; rows that were never served by themselves (a batch version served
    meanwhile) are counted with the next state that is.
    """
    learned = {int(row["seq"]): int(row["learned"]) for row in metrics}
    known, waits = 0, []
    for at, seq in session.swaps:
        upto = min(learned.get(seq, 0), len(session.driver.sent.times))
        waits += [at - sent for sent in session.driver.sent.times[known:upto]]
        known = max(known, upto)
    return np.array(waits)
