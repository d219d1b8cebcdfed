"""The trainer's decisions, over the fakes: who looks, who works, what is told, what is given back."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from stream_app.core.schema import Field, Schema
from stream_app.core.triggers import NotAllowed, NotYet
from stream_app.errors import Outage
from stream_app.job_ports import RETRAINING, Samples
from stream_app.messages import RETRAIN_FAILED, RETRAIN_FINISHED, RETRAIN_REJECTED, RETRAIN_STARTED
from stream_app.model_settings import ModelSettings
from stream_app.ports import Recorder, Stores
from stream_app.testing import InMemoryJobs, InMemoryLeases, InMemoryOutbox, InMemoryRegistry, InMemorySwitches
from stream_app.trainer.order import LEASE_S, MayGoOn, Order, Result, Trainee
from stream_app.trainer.promotions import MOST_IN_A_ROW
from stream_app.trainer.runner import Ending, Failed, Stopped
from stream_app.trainer.scheduler import EVERY_S
from stream_app.trainer.service import TrainerService
from stream_app.values import ControlEntry, Job, JobStatus, Partition, Task, Version, VersionStatus

SCHEMA = Schema(task=Task.BINARY, target="y", fields=(Field(name="a", type="number"),), classes=(0, 1))
CRASH = Failed(kind="crash", reason="was killed by SIGSEGV", may_repeat=True)
REJECTED = Result(status=JobStatus.REJECTED, reason="no gain")


class Registry(InMemoryRegistry):
    """Knows how far the log is: each window of `Log` has 100 rows."""

    seq = 0

    def models(self) -> Sequence[Mapping[str, Any]]:
        return [{**facts, "seq": self.seq} for facts in super().models()]


class Log:
    def __init__(self) -> None:
        self.read: dict[Partition, int] = {}

    def positions(self, model: str) -> dict[Partition, int]:
        return self.read if model == "m" else {}

    def rows_digest(self, model: str, *, through: int) -> tuple[int, str]:
        return 100 * through, f"{model}:{through}"


class Control:
    """Answers that an owner gave, by request."""

    def __init__(self) -> None:
        self.answers: dict[int, ControlEntry] = {}

    def answer(self, request_id: int) -> ControlEntry | None:
        return self.answers.get(request_id)


class FlakyJobs(InMemoryJobs):
    """Is away when told so."""

    away = False

    def renew(self, job_id: int, *, holder: str, now: float, lease_s: float) -> bool:
        if self.away:
            raise Outage
        return super().renew(job_id, holder=holder, now=now, lease_s=lease_s)

    def claim(self, *, holder: str, now: float, lease_s: float, is_ready: Callable[[Job], bool] = bool) -> Job | None:
        if self.away:
            raise Outage
        return super().claim(holder=holder, now=now, lease_s=lease_s, is_ready=is_ready)


@dataclass
class Script:
    """A runner that ends as it is told to."""

    endings: list[Ending | Callable[[MayGoOn], Ending]]
    orders: list[Order] = field(default_factory=list)

    def run(self, order: Order, may_go_on: MayGoOn) -> Ending:
        self.orders.append(order)
        ending = self.endings.pop(0)
        return ending(may_go_on) if callable(ending) else ending

    def output(self, job_id: int) -> str:
        return f"words of {job_id}\n"


@dataclass
class Stage:
    """A trainer with everything around it, and a clock that tests move."""

    retrain: dict[str, Any] = field(default_factory=dict)
    now: float = 1_000.0
    heard: Recorder = field(default_factory=Recorder)

    def __post_init__(self) -> None:
        self.registry, self.jobs, self.outbox, self.leases = Registry(), FlakyJobs(), InMemoryOutbox(), InMemoryLeases()
        self.control, self.switches = Control(), InMemorySwitches()
        self.registry.add_model("m", now=900.0)
        self.register("online", parent=0)
        anything: Any = None
        self.log = Log()
        log: Any = self.log
        self.incarnations: dict[str, str] = {}
        partitions: Any = SimpleNamespace(incarnation=self.incarnations.get)
        control: Any = self.control
        self.stores = Stores(
            log=log,
            partitions=partitions,
            publications=anything,
            control=control,
            checkpoints=anything,
            artifacts=anything,
            registry=self.registry,
            jobs=self.jobs,
            outbox=self.outbox,
            leases=self.leases,
            switches=self.switches,
        )

    def trainer(self, *endings: Ending | Callable[[MayGoOn], Ending], holder: str = "one") -> TrainerService:
        settings = ModelSettings(task=Task.BINARY, target="y", retrain={"every_records": 1_000, **self.retrain})
        return TrainerService(
            self.stores,
            {"m": Trainee(settings=settings, schema=SCHEMA)},
            Script(list(endings)),
            holder=holder,
            clock=lambda: self.now,
            observe=self.heard,
        )

    def after(self, windows: int) -> None:
        """Let windows come, and time pass."""
        self.registry.seq += windows
        self.now += EVERY_S

    def work(self, trainer: TrainerService) -> Job | None:
        """Let a trainer look and work once; return the newest job."""
        trainer.work_once(threading.Event())
        return next(iter(self.jobs.history("m")), None)

    def newest(self, status: JobStatus) -> Job:
        """Return the newest job, which has that status."""
        job = self.jobs.history("m")[0]
        assert job.status is status
        return job

    def told(self) -> list[str]:
        return [message.type for message in self.outbox.unsent()]

    def promoted(self, *, parent: int = 1) -> Result:
        """Register a version and return the result that asks for its promotion as the next request."""
        request = 1 + max((0, *self.requests()))
        number = self.register("batch", parent=parent)
        verdict = {"request": request, "version": number}
        return Result(status=JobStatus.SUCCEEDED, reason="better", version=number, verdict=verdict)

    def register(self, kind: str, *, parent: int) -> int:
        """Register a version and return its number."""
        version = Version(
            model="m",
            number=0,
            kind=kind,
            algorithm="any",
            status=VersionStatus.GATED,
            artifact=None,
            metrics={},
            trained_through=1,
            row_count=100,
            rows_digest="",
            parent=parent,
            trigger="volume",
            created_at=0.0,
        )
        return self.registry.register(version).number

    def requests(self) -> list[int]:
        return [int(job.verdict["request"]) for job in self.jobs.history("m") if "request" in job.verdict]

    def refuse(self, job: Job, reason: str, *, parent: int) -> None:
        """Answer a job's request as the owner."""
        request = int(job.verdict["request"])
        body = {"version": job.version, "parent": parent}
        self.control.answers[request] = ControlEntry(
            request_id=request, kind="promote", body=body, accepted=False, reason=reason
        )


def test_a_trigger_that_fires_ends_in_a_told_verdict() -> None:
    stage = Stage()
    trainer = stage.trainer(REJECTED)
    stage.after(9)
    assert stage.work(trainer) is None
    assert isinstance(trainer.scheduler.decisions["m"], NotYet)
    assert trainer.scheduler.decisions["m"].reason == "not yet: needs 100 more rows"
    stage.after(1)
    job = stage.work(trainer)
    assert job is not None
    assert (job.status, job.trigger, job.reason, job.through_seq) == (JobStatus.REJECTED, "volume", "no gain", 10)
    assert stage.told() == [RETRAIN_STARTED, RETRAIN_REJECTED]
    event = orjson.loads(stage.outbox.unsent()[-1].value)
    assert event == {
        "model": "m",
        "seq": 10,
        "details": {"job": 1, "trigger": "volume", "version": None, "reason": "no gain"},
    }
    assert ("model_age", stage.now - 900.0, {"model": "m"}) in stage.heard.facts
    assert ("model_retraining_triggered", 1.0, {"model": "m", "trigger_type": "volume"}) in stage.heard.facts
    assert ("retrain_duration", 0.0, {"trigger": "volume", "result": "rejected"}) in stage.heard.facts


def test_rows_are_counted_from_the_last_retrain_also_from_one_that_failed() -> None:
    stage = Stage()
    trainer = stage.trainer(Failed(kind="timeout", reason="too slow", may_repeat=False), REJECTED)
    stage.after(10)
    assert stage.work(trainer) == stage.newest(JobStatus.FAILED)
    assert stage.told() == [RETRAIN_STARTED, RETRAIN_FAILED]
    assert ("model_retraining_failure", 1.0, {"model": "m", "error_type": "timeout"}) in stage.heard.facts
    for _ in range(9):
        stage.after(1)
        stage.work(trainer)
    assert len(stage.jobs.history("m")) == 1
    stage.after(1)
    stage.work(trainer)
    assert len(stage.jobs.history("m")) == 2


def test_one_trainer_looks_and_another_takes_over_when_it_is_gone() -> None:
    stage = Stage()
    first, second = stage.trainer(), stage.trainer(holder="two")
    first.work_once(threading.Event())
    second.work_once(threading.Event())
    assert (list(first.scheduler.decisions), list(second.scheduler.decisions)) == (["m"], [])
    stage.now += LEASE_S + 1
    second.work_once(threading.Event())
    assert list(second.scheduler.decisions) == ["m"]


def test_without_enabled_only_what_is_asked_for_runs() -> None:
    stage = Stage(retrain={"enabled": False})
    trainer = stage.trainer(REJECTED)
    stage.after(99)
    assert stage.work(trainer) is None
    stage.jobs.request("m", "manual", now=stage.now)
    stage.work(trainer)
    assert stage.newest(JobStatus.REJECTED).trigger == "manual"


def test_a_stopped_trainer_does_what_is_asked_for_and_nothing_by_itself() -> None:
    stage = Stage()
    stage.switches.turn(RETRAINING, on=False, by="somebody", now=0.0)
    trainer = stage.trainer(REJECTED, REJECTED)
    stage.after(99)
    assert stage.work(trainer) is None
    assert trainer.scheduler.decisions["m"] == NotAllowed(reason="automatic retraining is stopped")
    stage.jobs.request("m", "manual", now=stage.now)
    assert stage.work(trainer) == stage.newest(JobStatus.REJECTED)
    stage.switches.turn(RETRAINING, on=True, by="somebody", now=0.0)
    stage.after(99)
    assert stage.work(trainer) == stage.newest(JobStatus.REJECTED)
    assert stage.newest(JobStatus.REJECTED).trigger == "volume"


PLACE = Partition(incarnation="i", topic="t", number=0)


def requested_with_samples(stage: Stage) -> None:
    stage.jobs.request("m", "manual", now=stage.now, samples=Samples(count=1, file="f", end={PLACE: 10}))


def test_a_retrain_waits_until_the_log_holds_its_samples() -> None:
    stage = Stage()
    trainer = stage.trainer(REJECTED)
    requested_with_samples(stage)
    stage.log.read[PLACE] = 9
    assert stage.work(trainer) == stage.newest(JobStatus.QUEUED)
    stage.log.read[PLACE] = 10
    assert stage.work(trainer) == stage.newest(JobStatus.REJECTED)
    assert stage.jobs.lines()[0].stdout == "words of 1\nrejected: no gain\n"


def test_samples_of_a_topic_that_is_gone_are_not_waited_for() -> None:
    stage = Stage()
    trainer = stage.trainer(REJECTED)
    requested_with_samples(stage)
    stage.incarnations["t"] = "i"
    assert stage.work(trainer) == stage.newest(JobStatus.QUEUED)
    stage.incarnations["t"] = "another"
    assert stage.work(trainer) == stage.newest(JobStatus.REJECTED)


def test_cooldown_and_single_flight_hold_triggers_back_with_their_reason() -> None:
    stage = Stage(retrain={"cooldown_s": 60})

    def look(may_go_on: MayGoOn) -> Ending:
        stage.after(20)
        assert may_go_on()
        return REJECTED

    trainer = stage.trainer(look)
    stage.after(10)
    stage.work(trainer)
    assert trainer.scheduler.decisions["m"] == NotAllowed(reason="a retrain is running")
    stage.after(20)
    stage.work(trainer)
    assert trainer.scheduler.decisions["m"].reason.startswith("cooling down for 58 more of 60 s")


def test_a_model_that_is_not_in_the_settings_fails_and_the_others_go_on() -> None:
    stage = Stage()
    stage.registry.add_model("stranger")
    trainer = stage.trainer(REJECTED)
    stage.jobs.request("stranger", "manual", now=0.0)
    stage.jobs.request("m", "manual", now=0.0)
    stage.work(trainer)
    stage.work(trainer)
    assert stage.jobs.history("stranger")[0].reason == "models.stranger: not in the settings of this trainer"
    assert stage.jobs.history("m")[0].status is JobStatus.REJECTED


def test_a_process_that_died_is_tried_again_as_often_as_the_settings_say() -> None:
    stage = Stage(retrain={"max_attempts": 3})
    trainer = stage.trainer(CRASH, CRASH, CRASH)
    stage.jobs.request("m", "manual", now=0.0)
    for status in (JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.FAILED):
        assert stage.work(trainer) == stage.newest(status)
    assert stage.told() == [RETRAIN_STARTED] * 3 + [RETRAIN_FAILED]
    triggered = [name for name, _, _ in stage.heard.facts if name == "model_retraining_triggered"]
    assert triggered == ["model_retraining_triggered"]


def test_a_job_that_takes_its_trainers_with_it_is_given_up() -> None:
    stage = Stage(retrain={"max_attempts": 2})
    stage.jobs.request("m", "manual", now=0.0)
    for holder in ("dead one", "dead two"):
        stage.jobs.claim(holder=holder, now=stage.now, lease_s=LEASE_S)
        stage.now += LEASE_S
    job = stage.work(stage.trainer())
    assert job is not None
    assert (job.status, job.attempts) == (JobStatus.FAILED, 3)
    assert "2 attempts were begun and none ended" in job.reason


def test_a_trainer_that_stops_gives_its_job_back_at_once() -> None:
    stage, stop = Stage(), threading.Event()

    def stopped(may_go_on: MayGoOn) -> Ending:
        assert may_go_on()
        stop.set()
        assert not may_go_on()
        return Stopped()

    stage.jobs.request("m", "manual", now=0.0)
    stage.trainer(stopped).run(stop)
    job = stage.work(stage.trainer(REJECTED, holder="two"))
    assert job is not None
    assert (job.status, job.attempts) == (JobStatus.REJECTED, 1)
    assert stage.told() == [RETRAIN_STARTED, RETRAIN_STARTED, RETRAIN_REJECTED]


def test_a_job_is_not_given_up_for_trainers_that_were_replaced() -> None:
    """Only its own failures count, and that it was triggered is told once."""
    stage = Stage(retrain={"max_attempts": 2})
    stage.jobs.request("m", "manual", now=0.0)
    for _ in range(5):
        stage.now += 1
        stage.work(stage.trainer(Stopped()))
        assert stage.jobs.history("m")[0].attempts == 0
    stage.work(stage.trainer(CRASH))
    stage.work(stage.trainer(Stopped()))
    job = stage.work(stage.trainer(CRASH))
    assert job is not None
    assert (job.status, job.attempts) == (JobStatus.FAILED, 2)
    triggered = [name for name, _, _ in stage.heard.facts if name == "model_retraining_triggered"]
    assert triggered == ["model_retraining_triggered"]


def test_a_trainer_that_lost_its_job_ends_it_and_says_nothing() -> None:
    stage = Stage()

    def overslept(may_go_on: MayGoOn) -> Ending:
        stage.now += LEASE_S + 1
        assert stage.jobs.claim(holder="two", now=stage.now, lease_s=LEASE_S) is not None
        assert not may_go_on()
        return REJECTED

    stage.jobs.request("m", "manual", now=0.0)
    job = stage.work(stage.trainer(overslept))
    assert job is not None
    assert job.status is JobStatus.RUNNING
    assert stage.told() == [RETRAIN_STARTED]


def test_a_retrain_goes_on_without_a_database_until_its_lease_is_over() -> None:
    stage = Stage()

    def cut_off(may_go_on: MayGoOn) -> Ending:
        stage.jobs.away = True
        stage.now += LEASE_S - 1
        assert may_go_on()
        stage.now += 1
        assert not may_go_on()
        stage.jobs.away = False
        return Stopped()

    stage.jobs.request("m", "manual", now=0.0)
    stage.work(stage.trainer(cut_off))


def test_the_lease_is_kept_while_a_retrain_runs() -> None:
    stage = Stage()

    def slow(may_go_on: MayGoOn) -> Ending:
        for _ in range(10):
            stage.now += LEASE_S / 3
            assert may_go_on()
            assert stage.jobs.claim(holder="two", now=stage.now, lease_s=LEASE_S) is None
        return REJECTED

    stage.jobs.request("m", "manual", now=stage.now)
    job = stage.work(stage.trainer(slow))
    assert job is not None
    assert job.status is JobStatus.REJECTED


def test_a_database_that_is_away_is_waited_for(wait_until: Callable[..., None]) -> None:
    stage, stop = Stage(), threading.Event()
    stage.jobs.away = True
    stage.jobs.request("m", "manual", now=0.0)
    thread = threading.Thread(target=stage.trainer(REJECTED).run, args=(stop,))
    thread.start()
    stage.jobs.away = False
    wait_until(lambda: stage.jobs.history("m")[0].status is JobStatus.REJECTED, 10)
    stop.set()
    thread.join(10)
    assert stage.leases.acquire("stream-app-retrain-scheduler", holder="two", now=stage.now, lease_s=1)


def test_a_version_whose_champion_was_overtaken_is_judged_again() -> None:
    stage = Stage()
    trainer = stage.trainer(stage.promoted(), REJECTED)
    stage.after(10)
    first = stage.work(trainer)
    assert first is not None
    assert first.version == 2
    assert stage.told() == [RETRAIN_STARTED, RETRAIN_FINISHED]
    stage.refuse(first, "compared with version 1, but the champion is 0", parent=1)
    stage.after(0)
    second = stage.work(trainer)
    assert second is not None
    assert (second.id, second.trigger, second.status) == (2, "volume", JobStatus.REJECTED)
    assert stage.registry.version("m", 2).status is VersionStatus.REJECTED
    assert stage.told()[2:] == [RETRAIN_REJECTED, RETRAIN_STARTED, RETRAIN_REJECTED]
    details = orjson.loads(stage.outbox.unsent()[2].value)["details"]
    assert details == {"job": 1, "version": 2, "reason": "compared with version 1, but the champion is 0"}
    stage.after(0)
    assert stage.work(trainer) == second


def test_it_is_not_judged_again_for_ever() -> None:
    stage = Stage()
    trainer = stage.trainer(*(lambda _: stage.promoted() for _ in range(9)))
    stage.after(10)
    for _ in range(9):
        job = stage.work(trainer)
        assert job is not None
        stage.refuse(job, "overtaken", parent=job.id + 100)
        stage.after(0)
    assert len(stage.jobs.history("m")) == MOST_IN_A_ROW
    assert {v.status for v in stage.registry.versions("m") if v.kind == "batch"} == {VersionStatus.REJECTED}


def test_a_version_that_was_refused_for_itself_is_rejected_and_that_is_all() -> None:
    stage = Stage()
    trainer = stage.trainer(stage.promoted(parent=0))
    stage.after(10)
    job = stage.work(trainer)
    assert job is not None
    stage.refuse(job, "version 2 cannot be loaded: its bytes are gone", parent=0)
    for _ in range(3):
        stage.after(0)
        assert stage.work(trainer) == job
    assert stage.registry.version("m", 2).status is VersionStatus.REJECTED
    assert stage.told() == [RETRAIN_STARTED, RETRAIN_FINISHED, RETRAIN_REJECTED]


@pytest.mark.parametrize("accepted", [True, None], ids=["accepted", "waiting"])
def test_a_promotion_that_was_not_refused_needs_no_more(accepted: bool | None) -> None:
    stage = Stage()
    trainer = stage.trainer(stage.promoted())
    stage.after(10)
    job = stage.work(trainer)
    assert job is not None
    if accepted:
        stage.refuse(job, "", parent=1)
        request = int(job.verdict["request"])
        stage.control.answers[request] = replace(stage.control.answers[request], accepted=True)
    stage.after(0)
    assert stage.work(trainer) == job
    assert stage.registry.version("m", 2).status is VersionStatus.GATED
