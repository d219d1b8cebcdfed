"""The leased queue of full retrains.

Single flight is the database's: partial unique indexes refuse a second queued and a second running job of a
model, whoever asks and from wherever. Claims and renewals compare and set; a trainer that died loses its job
when its lease runs out, and the next claim takes it up again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Engine, RowMapping, Update, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from stream_app.errors import Conflict
from stream_app.job_ports import RetrainingLine, Samples
from stream_app.ports import ENDED
from stream_app.storage.database import writing
from stream_app.storage.retraining_lines import close_lines, has_line, newest_lines, open_line
from stream_app.storage.tables import jobs
from stream_app.values import Job, JobStatus, Partition

_QUEUED = jobs.c.status == JobStatus.QUEUED.value
_RUNNING = jobs.c.status == JobStatus.RUNNING.value


class SqlJobs:
    """`job_ports.Jobs` over the tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def request(self, model: str, trigger: str, *, now: float, samples: Samples | None = None) -> tuple[Job, bool]:
        """Queue a retrain; if one is queued already return it and False: it waits for these samples too."""
        while True:
            # The one that is in the way may be claimed before we join it: then there is room for ours.
            if (job := self._join(model, samples, now)) is not None:
                return job, False
            if (job := self._insert(model, trigger, samples, now)) is not None:
                return job, True

    def claim(
        self, *, holder: str, now: float, lease_s: float, is_ready: Callable[[Job], bool] = lambda _: True
    ) -> Job | None:
        """Take the oldest ready job that is queued, or whose holder's lease ran out, and mark it running."""
        for row in self._claimable(now):
            if is_ready(_job(row)) and (job := self._take(row, holder, now, lease_s)) is not None:
                return job
        return None

    def renew(self, job_id: int, *, holder: str, now: float, lease_s: float) -> bool:
        """Extend the lease; False when it was lost: end the work."""
        return self._change(update(jobs).where(_held(job_id, holder)).values(lease_until=now + lease_s))

    def give_back(self, job: Job, *, holder: str, now: float) -> bool:
        """Let it be claimed again at once, with the job's `attempts` behind it; False when the lease was lost."""
        return self._change(update(jobs).where(_held(job.id, holder)).values(lease_until=now, attempts=job.attempts))

    def finish(self, job: Job, *, holder: str, output: str = "") -> bool:
        """Store the end state and what it printed if the lease is still ours; False otherwise.

        Raises Conflict for another state.
        """
        if job.status not in ENDED:
            raise Conflict(f"job {job.id}: status {job.status}, expected one of {', '.join(sorted(ENDED))}")
        result = {
            "status": job.status.value,
            "finished_at": job.finished_at,
            "through_seq": job.through_seq,
            "version": job.version,
            "reason": job.reason,
            "verdict": orjson.dumps(dict(job.verdict)).decode(),
        }
        with writing(self._engine) as connection:
            if connection.execute(update(jobs).where(_held(job.id, holder)).values(result)).rowcount != 1:
                return False
            close_lines(connection, job, output)
            return True

    def lines(self, *, limit: int = 20) -> Sequence[RetrainingLine]:
        """Return the newest lines of the retraining logs, newest first."""
        return newest_lines(self._engine, limit)

    def history(self, model: str | None = None, *, limit: int = 20) -> Sequence[Job]:
        """Return jobs, newest first."""
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(jobs.c.model == model)
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def _join(self, model: str, samples: Samples | None, now: float) -> Job | None:
        """Let the queued job of a model wait for the samples too; None if there is none."""
        queued = select(jobs).where(jobs.c.model == model, _QUEUED).with_for_update()
        with writing(self._engine) as connection:
            row = connection.execute(queued).mappings().first()
            if row is None:
                return None
            job = _job(row)
            if samples is None:
                return job
            after = {**job.after, **{place: max(end, job.after.get(place, 0)) for place, end in samples.end.items()}}
            changed = update(jobs).where(jobs.c.id == job.id).values(wait_for=_after_json(after)).returning(jobs)
            open_line(connection, job.id, samples, now=now)
            return _job(connection.execute(changed).mappings().one())

    def _insert(self, model: str, trigger: str, samples: Samples | None, now: float) -> Job | None:
        row = {
            "model": model,
            "trigger": trigger,
            "status": JobStatus.QUEUED.value,
            "requested_at": now,
            "attempts": 0,
            "reason": "",
            "verdict": "{}",
            "wait_for": None if samples is None else _after_json(samples.end),
        }
        try:
            with writing(self._engine) as connection:
                job = _job(connection.execute(jobs.insert().values(row).returning(jobs)).mappings().one())
                if samples is not None:
                    open_line(connection, job.id, samples, now=now)
                return job
        except IntegrityError:
            return None  # jobs_one_queued: somebody else was faster

    def _claimable(self, now: float) -> Sequence[RowMapping]:
        free = or_(_QUEUED, and_(_RUNNING, jobs.c.lease_until <= now))
        with self._engine.connect() as connection:
            return connection.execute(select(jobs).where(free).order_by(jobs.c.id)).mappings().all()

    def _take(self, row: RowMapping, holder: str, now: float, lease_s: float) -> Job | None:
        # As it was read, or somebody else took it meanwhile, or has it wait for more.
        unchanged = and_(
            jobs.c.id == row["id"],
            jobs.c.lease_until.is_not_distinct_from(row["lease_until"]),
            jobs.c.wait_for.is_not_distinct_from(row["wait_for"]),
        )
        taken = {
            "status": JobStatus.RUNNING.value,
            "holder": holder,
            "lease_until": now + lease_s,
            "started_at": func.coalesce(jobs.c.started_at, now),
            "attempts": jobs.c.attempts + 1,
        }
        query = update(jobs).where(unchanged, or_(_QUEUED, _RUNNING)).values(taken).returning(jobs)
        try:
            with writing(self._engine) as connection:
                changed = connection.execute(query).mappings().first()
                if changed is not None and not has_line(connection, changed["id"]):
                    open_line(connection, changed["id"], None, now=now)
        except IntegrityError:
            return None  # jobs_one_running: another job of this model is being worked on
        return None if changed is None else _job(changed)

    def _change(self, query: Update) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount == 1


def _held(job_id: int, holder: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, jobs.c.holder == holder, _RUNNING)


def _job(row: RowMapping) -> Job:
    fields: dict[str, Any] = {n: v for n, v in row.items() if n not in {"holder", "lease_until", "wait_for"}}
    fields |= {"status": JobStatus(row["status"]), "verdict": orjson.loads(row["verdict"])}
    return Job(**fields, after=_after(row["wait_for"]))


def _after_json(after: Mapping[Partition, int]) -> str:
    return orjson.dumps([[p.incarnation, p.topic, p.number, end] for p, end in sorted(after.items())]).decode()


def _after(text: str | None) -> Mapping[Partition, int]:
    places = [] if text is None else orjson.loads(text)
    return {Partition(incarnation=i, topic=topic, number=number): end for i, topic, number, end in places}
