"""Fakes of the stores, so that users can test their own pipelines without a database.

Each passes the contract tests of the real one. They live in one process and forget everything with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any

from stream_app.errors import Conflict, NotFound
from stream_app.job_ports import RetrainingLine, Samples
from stream_app.messages import LABEL_JOINED
from stream_app.ports import ENDED, OutboxMessage
from stream_app.storage import retention
from stream_app.storage.retention import SETTLED, Published
from stream_app.storage.retraining_lines import ending, iso
from stream_app.values import ExpiredBytes, Job, JobStatus, Version, VersionStatus


@dataclass(slots=True)
class _Model:
    created_at: float
    champion: int = 0
    promotion_seq: int = 0
    versions: list[Version] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    asked_for: set[int] = field(default_factory=set)


class InMemoryRegistry:
    """`ports.Registry`, and in `add_model`, `publish` and `ask_for` what other rooms do to it."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._deleted: set[tuple[str, str, int | None]] = set()
        self._lock = RLock()

    def add_model(self, model: str, *, now: float = 0.0) -> None:
        """Stand in for the first take-over of a model."""
        self._models[model] = _Model(created_at=now)

    def publish(self, published: Published) -> None:
        """Stand in for an owner's promotion or publication: its version serves from now on."""
        state = self._models[published.model]
        state.promotion_seq, state.champion = published.promotion_seq, int(published.version.partition(".")[0])
        state.published.append(published)
        self._move(published.model, state.champion, VersionStatus.PROMOTED)

    def ask_for(self, model: str, number: int) -> None:
        """Stand in for a request about a version that waits for the owner."""
        self._models[model].asked_for.add(number)

    def register(self, version: Version) -> Version:
        """Insert with the model's next number (the given number is ignored); numbers are never used twice."""
        with self._lock:
            if version.model not in self._models:
                raise NotFound(f"there is no model {version.model!r}: no worker has taken it over yet")
            stored = self._models[version.model].versions
            stored.append(replace(version, number=len(stored) + 1))
            return stored[-1]

    def versions(self, model: str) -> Sequence[Version]:
        """Return all versions, newest first."""
        return self._models[model].versions[::-1] if model in self._models else []

    def version(self, model: str, number: int) -> Version:
        """Return one version; raises NotFound."""
        for each in self.versions(model):
            if each.number == number:
                return each
        raise NotFound(f"model {model!r} has no version {number}")

    def set_status(self, model: str, number: int, status: VersionStatus) -> None:
        """Move a version to `rejected` or `retired`; promotion is the owner's alone."""
        if status not in SETTLED:
            raise Conflict(f"version {number} of {model!r}: only its owner makes a version {status}")
        self.version(model, number)
        if number == self.champion(model)[0]:
            raise Conflict(f"version {number} of {model!r} serves now: promote another one first")
        self._move(model, number, status)

    def champion(self, model: str) -> tuple[int, int]:
        """Return (version number, promotion_seq) of what serves now, (0, 0) before the first publication."""
        state = self._models.get(model)
        return (state.champion, state.promotion_seq) if state else (0, 0)

    def previous(self, model: str) -> int | None:
        """Return the version that served before the one that serves now, None if no other ever did."""
        if model not in self._models:
            return None
        served = [int(each.version.partition(".")[0]) for each in self._models[model].published]
        return next((number for number in reversed(served) if number != served[-1]), None)

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return name, epoch, seq, effects_seq, champion, promotion_seq, created_at of every model."""
        return [
            {
                "name": name,
                "epoch": 1,
                "seq": 0,
                "effects_seq": 0,
                "champion": state.champion,
                "promotion_seq": state.promotion_seq,
                "created_at": state.created_at,
            }
            for name, state in sorted(self._models.items())
        ]

    def expired_versions(self, model: str, *, keep: int) -> Sequence[ExpiredBytes]:
        """Return versions whose bytes may go: not among the newest `keep`, not serving, in no open request."""
        stored = [
            (each.number, each.artifact)
            for each in self.versions(model)
            if each.artifact is not None and (model, str(each.number), None) not in self._deleted
        ]
        in_use = self._models[model].asked_for | {self.champion(model)[0]}
        return retention.expired_versions(model, stored, keep=keep, in_use=in_use)

    def expired_snapshots(self, model: str, *, keep: int, newer_than: float) -> Sequence[ExpiredBytes]:
        """Return snapshots whose bytes may go: neither among the newest `keep` nor published after `newer_than`."""
        published = [
            each
            for each in reversed(self._models[model].published)
            if (model, each.version, each.promotion_seq) not in self._deleted
        ]
        return retention.expired_snapshots(published, keep=keep, newer_than=newer_than)

    def artifact_paths(self, model: str) -> frozenset[str]:
        """Return where the bytes of every version and snapshot of the model are or were."""
        if model not in self._models:
            return frozenset()
        state = self._models[model]
        stored = [*(each.artifact for each in state.versions), *(each.artifact for each in state.published)]
        return frozenset(artifact.path for artifact in stored if artifact is not None)

    def mark_deleted(self, expired: Sequence[ExpiredBytes], *, now: float) -> None:  # noqa: ARG002 - only rows have times
        """Note that these bytes were deleted; the rows, which are the lineage, stay."""
        self._deleted |= {(each.model, each.version, each.promotion_seq) for each in expired}

    def _move(self, model: str, number: int, status: VersionStatus) -> None:
        stored = self._models[model].versions
        stored[:] = [replace(each, status=status) if each.number == number else each for each in stored]


@dataclass(slots=True)
class _Held:
    job: Job
    holder: str | None = None
    until: float = 0.0


class InMemoryJobs:
    """`job_ports.Jobs`."""

    def __init__(self) -> None:
        self._jobs: list[_Held] = []
        #: (job, line)
        self._lines: list[tuple[int, RetrainingLine]] = []
        self._lock = RLock()

    def request(self, model: str, trigger: str, *, now: float, samples: Samples | None = None) -> tuple[Job, bool]:
        """Queue a retrain; if one is queued already return it and False: it waits for these samples too."""
        with self._lock:
            queued = self._of(model, JobStatus.QUEUED)
            if not queued:
                job_id = len(self._jobs) + 1
                job = Job(id=job_id, model=model, trigger=trigger, status=JobStatus.QUEUED, requested_at=now)
                self._jobs.append(_Held(job))
            held = (queued or self._jobs)[-1]
            if samples is not None:
                ends = {place: max(end, held.job.after.get(place, 0)) for place, end in samples.end.items()}
                held.job = replace(held.job, after={**held.job.after, **ends})
                self._open(held.job.id, samples, now)
            return held.job, not queued

    def claim(
        self, *, holder: str, now: float, lease_s: float, is_ready: Callable[[Job], bool] = lambda _: True
    ) -> Job | None:
        """Take the oldest ready job that is queued, or whose holder's lease ran out, and mark it running."""
        with self._lock:
            for held in self._jobs:
                if self._is_free(held, now) and is_ready(held.job):
                    if all(job_id != held.job.id for job_id, _ in self._lines):
                        self._open(held.job.id, None, now)
                    started = now if held.job.started_at is None else held.job.started_at
                    held.holder, held.until = holder, now + lease_s
                    held.job = replace(
                        held.job, status=JobStatus.RUNNING, started_at=started, attempts=held.job.attempts + 1
                    )
                    return held.job
        return None

    def renew(self, job_id: int, *, holder: str, now: float, lease_s: float) -> bool:
        """Extend the lease; False when it was lost: end the work."""
        with self._lock:
            held = self._held(job_id, holder)
            if held is not None:
                held.until = now + lease_s
            return held is not None

    def give_back(self, job: Job, *, holder: str, now: float) -> bool:
        """Let it be claimed again at once, with the job's `attempts` behind it; False when the lease was lost."""
        with self._lock:
            held = self._held(job.id, holder)
            if held is not None:
                held.until, held.job = now, replace(held.job, attempts=job.attempts)
            return held is not None

    def finish(self, job: Job, *, holder: str, output: str = "") -> bool:
        """Store the end state and what it printed if the lease is still ours; False otherwise.

        Raises Conflict for another state.
        """
        if job.status not in ENDED:
            raise Conflict(f"job {job.id}: status {job.status}, expected one of {', '.join(sorted(ENDED))}")
        with self._lock:
            held = self._held(job.id, holder)
            if held is not None:
                held.job = job
                status, stdout, stderr = ending(job, output)
                self._lines = [
                    (i, replace(line, status=status, stdout=stdout, stderr=stderr) if i == job.id else line)
                    for i, line in self._lines
                ]
            return held is not None

    def lines(self, *, limit: int = 20) -> Sequence[RetrainingLine]:
        """Return the newest lines of the retraining logs, newest first."""
        return [line for _, line in reversed(self._lines)][:limit]

    def _open(self, job_id: int, samples: Samples | None, now: float) -> None:
        line = RetrainingLine(
            id=len(self._lines) + 1,
            timestamp=iso(now),
            sample_count=None if samples is None else samples.count,
            training_file=None if samples is None else samples.file,
            status="STARTED",
            stdout=None,
            stderr=None,
        )
        self._lines.append((job_id, line))

    def history(self, model: str | None = None, *, limit: int = 20) -> Sequence[Job]:
        """Return jobs, newest first."""
        return [held.job for held in reversed(self._jobs) if model in {None, held.job.model}][:limit]

    def _of(self, model: str, status: JobStatus) -> list[_Held]:
        return [held for held in self._jobs if (held.job.model, held.job.status) == (model, status)]

    def _is_free(self, held: _Held, now: float) -> bool:
        if held.job.status == JobStatus.QUEUED:
            return not self._of(held.job.model, JobStatus.RUNNING)
        return held.job.status == JobStatus.RUNNING and held.until <= now

    def _held(self, job_id: int, holder: str) -> _Held | None:
        held = self._jobs[job_id - 1]
        return held if held.holder == holder and held.job.status == JobStatus.RUNNING else None


class InMemorySwitches:
    """`job_ports.Switches`."""

    def __init__(self) -> None:
        self._off: set[str] = set()

    def is_on(self, name: str) -> bool:
        """Return how the switch was left; one that nobody touched is on."""
        return name not in self._off

    def turn(self, name: str, *, on: bool, by: str, now: float) -> None:  # noqa: ARG002 - nobody asks who it was
        """Turn it; turning it again the same way changes nothing."""
        (self._off.discard if on else self._off.add)(name)


@dataclass(slots=True)
class _Owed:
    message: OutboxMessage
    promotion_seq: int | None
    sent_at: float | None = None


class InMemoryOutbox:
    """`ports.Outbox`, and in `owe` what an owner's transaction does to it."""

    def __init__(self, *, learning_events: str = "learning-events") -> None:
        """`learning_events` is the topic of noted events."""
        self._owed: list[_Owed] = []
        self._notes = 0
        self._learning_events = learning_events
        self._lock = RLock()

    def owe(self, message: OutboxMessage, *, promotion_seq: int | None = None) -> None:
        """Stand in for an owner's transaction; the id is given anew."""
        with self._lock:
            last = self._owed[-1].message.id if self._owed else 0
            self._owed.append(_Owed(replace(message, id=last + 1), promotion_seq))

    def unsent(self, *, limit: int = 1000) -> Sequence[OutboxMessage]:
        """Return what was not yet sent, oldest first, but joined labels behind everything else."""
        waiting = [owed.message for owed in self._owed if owed.sent_at is None]
        return sorted(waiting, key=lambda message: message.type == LABEL_JOINED)[:limit]

    def mark_sent(self, ids: Sequence[int], *, now: float) -> None:
        """Note that these were acknowledged by the broker."""
        for owed in self._owed:
            if owed.message.id in ids:
                owed.sent_at = now

    def pointers(self) -> Sequence[OutboxMessage]:
        """Return the current model-updated message of every model, to be asserted again by a new relay."""
        newest: dict[str, _Owed] = {}
        for owed in sorted(self._owed, key=lambda each: each.promotion_seq or 0):
            if owed.promotion_seq is not None:
                newest[owed.message.model] = owed
        return sorted((owed.message for owed in newest.values()), key=lambda message: message.id)

    def note(self, model: str, type_: str, value: bytes, *, now: float) -> None:
        """Add an event for `learning-events` outside of an owner's transaction (retrain started, failed …)."""
        self._notes += 1
        message = OutboxMessage(
            id=0,
            model=model,
            event_id=f"{model}:note:{self._notes}",
            type=type_,
            topic=self._learning_events,
            key=model.encode(),
            value=value,
            created_at=now,
        )
        self.owe(message)

    def forget_sent(self, *, before: float) -> int:
        """Delete what was sent before that time, but never a model's current pointer; return how many."""
        with self._lock:
            current = {message.id for message in self.pointers()}
            kept = [
                owed
                for owed in self._owed
                if owed.sent_at is None or owed.sent_at >= before or owed.message.id in current
            ]
            forgotten, self._owed = len(self._owed) - len(kept), kept
            return forgotten


class InMemoryLeases:
    """`ports.Leases`."""

    def __init__(self) -> None:
        self._leases: dict[str, tuple[str, float]] = {}
        self._lock = RLock()

    def acquire(self, name: str, *, holder: str, now: float, lease_s: float) -> bool:
        """Take or renew the lease; False while somebody else holds it."""
        with self._lock:
            owner, until = self._leases.get(name, (holder, now))
            if owner != holder and until > now:
                return False
            self._leases[name] = (holder, now + lease_s)
            return True

    def release(self, name: str, *, holder: str) -> None:
        """Give it back early; nothing happens if it is somebody else's."""
        with self._lock:
            if self._leases.get(name, ("", 0.0))[0] == holder:
                del self._leases[name]
