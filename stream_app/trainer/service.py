"""The trainer: looks for retrains that are due, takes jobs, has each run in its own process, and tells how it ended."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from stream_app.errors import Outage
from stream_app.messages import RETRAIN_FAILED, RETRAIN_FINISHED, RETRAIN_REJECTED, RETRAIN_STARTED, LearningEvent
from stream_app.ports import Clock, Observer, Stores
from stream_app.trainer.order import LEASE_S, MayGoOn, Order, Result, Trainee
from stream_app.trainer.runner import Ending, Failed, Stopped
from stream_app.trainer.scheduler import Scheduler
from stream_app.values import Job, JobStatus

_LOG = logging.getLogger(__name__)
#: How soon a job that was requested is found.
POLL_S: Final = 0.5
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 10.0
_EVENTS: Final = {
    JobStatus.SUCCEEDED: RETRAIN_FINISHED,
    JobStatus.REJECTED: RETRAIN_REJECTED,
    JobStatus.FAILED: RETRAIN_FAILED,
}


class RunsRetrains(Protocol):
    """What runs a retrain."""

    def run(self, order: Order, may_go_on: MayGoOn) -> Ending:
        """Run it to its end, asking `may_go_on` several times a second."""

    def output(self, job_id: int) -> str:
        """Return what a job has printed so far."""


class TrainerService:
    """Works jobs off, one at a time; several trainers share the queue."""

    def __init__(
        self,
        stores: Stores,
        trainees: Mapping[str, Trainee],
        runner: RunsRetrains,
        *,
        holder: str,
        clock: Clock,
        observe: Observer,
    ) -> None:
        """`holder` is unique to this trainer; `trainees` are the models that it may retrain, by name."""
        self._stores = stores
        self._trainees = trainees
        self._runner = runner
        self._holder = holder
        self._clock = clock
        self._observe = observe
        self.scheduler = Scheduler(stores, trainees, holder=holder, clock=clock, observe=observe)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; a database that is away is waited for.

        Blocks, and must stay the same thread: the processes of retrains die with it. A retrain that runs when
        `stop` is set is ended and its job given back, for the next trainer to take up at once.
        """
        pause_s = _FIRST_PAUSE_S
        while not stop.is_set():
            try:
                worked = self.work_once(stop)
                pause_s = _FIRST_PAUSE_S
            except Outage:
                _LOG.warning("the database is away, looking again in %g s", pause_s, exc_info=True)
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if not worked:
                    stop.wait(POLL_S)
        self._leave()

    def work_once(self, stop: threading.Event) -> bool:
        """Look at the triggers, then do one job if there is one; return whether there was."""
        self.scheduler.look_if_due()
        now = self._clock()
        job = self._stores.jobs.claim(holder=self._holder, now=now, lease_s=LEASE_S, is_ready=self._has_samples)
        if job is not None:
            if (job.attempts, job.started_at) == (1, now):  # not one that was given back before its first attempt ended
                self._observe("model_retraining_triggered", model=job.model, trigger_type=job.trigger)
            self._work(job, stop)
        return job is not None

    def _has_samples(self, job: Job) -> bool:
        """Return whether the log holds what the job was requested with, or never will: its topic is another now."""
        if not job.after:
            return True
        positions = self._stores.log.positions(job.model)
        return all(
            positions.get(partition, 0) >= end
            or self._stores.partitions.incarnation(partition.topic) not in {None, partition.incarnation}
            for partition, end in job.after.items()
        )

    def _work(self, job: Job, stop: threading.Event) -> None:
        """Do a job.

        1. name the rows: through the newest window there is
        2. tell that it starts; 3. run it; 4. store how it ended and tell that too, or give it back
        """
        trainee = self._trainees.get(job.model)
        if trainee is None:
            self._end(job, _failed("Misconfigured", f"models.{job.model}: not in the settings of this trainer"))
            return
        most = trainee.settings.retrain.max_attempts
        if job.attempts > most:
            self._end(job, _failed("crash", f"{most} attempts were begun and none ended: each trainer or process died"))
            return
        seq = next((int(m["seq"]) for m in self._stores.registry.models() if m["name"] == job.model), 0)
        job = replace(job, through_seq=seq)  # 1
        self._begin(job)  # 2
        order = Order(job=job, trainee=trainee, through_seq=seq, holder=self._holder)
        ending = self._runner.run(order, Watch(self._stores, self.scheduler, job, self._holder, self._clock, stop))  # 3
        if isinstance(ending, Stopped) or (isinstance(ending, Failed) and ending.may_repeat and job.attempts < most):
            self._give_back(job, ending)  # 4
        else:
            self._end(job, ending)

    def _begin(self, job: Job) -> None:
        _LOG.info("%s: retrain %d starts, attempt %d", job.model, job.id, job.attempts)
        self._note(job, RETRAIN_STARTED, {"attempt": job.attempts})

    def _give_back(self, job: Job, ending: Stopped | Failed) -> None:
        if isinstance(ending, Failed):
            reason = ending.reason
        else:
            # the job is not to blame: however often trainers are replaced meanwhile, it is not given up for that
            reason, job = "this trainer stops", replace(job, attempts=job.attempts - 1)
        _LOG.warning("%s: retrain %d is given back: %s", job.model, job.id, reason)
        self._stores.jobs.give_back(job, holder=self._holder, now=self._clock())

    def _end(self, job: Job, ending: Result | Failed) -> None:
        """Store the end, then tell it; a trainer that lost the job meanwhile does neither."""
        finished_at = self._clock()
        if isinstance(ending, Failed):
            ended = replace(job, status=JobStatus.FAILED, reason=ending.reason, verdict={"error": ending.kind})
        else:
            ended = replace(
                job, status=ending.status, reason=ending.reason, version=ending.version, verdict=ending.verdict
            )
        ended = replace(ended, finished_at=finished_at)
        if not self._stores.jobs.finish(ended, holder=self._holder, output=self._runner.output(job.id)):
            _LOG.warning("%s: retrain %d is another trainer's by now", job.model, job.id)
            return
        _LOG.info("%s: retrain %d %s: %s", ended.model, ended.id, ended.status.value, ended.reason)
        self._measure(ended, finished_at - (job.started_at or finished_at))
        self._note(ended, _EVENTS[ended.status], {"version": ended.version, "reason": ended.reason, **ended.verdict})

    def _measure(self, job: Job, seconds: float) -> None:
        failed = job.status is JobStatus.FAILED
        self._observe("retrain_duration", amount=seconds, trigger=job.trigger, result=job.status.value)
        status = "failed" if failed else "success"
        self._observe("model_retraining_duration", amount=seconds, model=job.model, status=status)
        if failed:
            self._observe("model_retraining_failure", model=job.model, error_type=str(job.verdict["error"]))
        else:
            self._observe("model_retraining_success", model=job.model)

    def _note(self, job: Job, type_: str, details: Mapping[str, Any]) -> None:
        about = {"job": job.id, "trigger": job.trigger, **details}
        event = LearningEvent(model=job.model, seq=job.through_seq, details=about)
        self._stores.outbox.note(job.model, type_, orjson.dumps(event.model_dump(mode="json")), now=self._clock())

    def _leave(self) -> None:
        try:
            self.scheduler.give_back()
        except Outage:
            _LOG.warning("the database is away: the scheduler's lease runs out by itself")


class Watch:
    """Keeps a running retrain's lease, and the triggers of all models looked at meanwhile."""

    def __init__(
        self, stores: Stores, scheduler: Scheduler, job: Job, holder: str, clock: Clock, stop: threading.Event
    ) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._job = job
        self._holder = holder
        self._clock = clock
        self._stop = stop
        self._held_until = clock() + LEASE_S
        self._renew_at = clock() + LEASE_S / 4

    def __call__(self) -> bool:
        """Return False when the trainer stops or the job is another's."""
        if self._stop.is_set():
            return False
        try:
            self._scheduler.look_if_due()
            return self._renewed()
        except Outage:
            # without a database nobody else can take the job either, but once the lease is over they may
            return self._clock() < self._held_until

    def _renewed(self) -> bool:
        now = self._clock()
        if now < self._renew_at:
            return True
        if not self._stores.jobs.renew(self._job.id, holder=self._holder, now=now, lease_s=LEASE_S):
            _LOG.warning("%s: retrain %d was lost to another trainer", self._job.model, self._job.id)
            return False
        self._held_until, self._renew_at = now + LEASE_S, now + LEASE_S / 4
        return True


def _failed(kind: str, reason: str) -> Failed:
    return Failed(kind=kind, reason=reason, may_repeat=False)
