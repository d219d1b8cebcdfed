"""The leased queue of full retrains.

Single flight is the database's: partial unique indexes refuse a second queued and a second running job of a
model, whoever asks and from wherever. Claims and renewals compare and set; a trainer that died loses its job
when its lease runs out, and the next claim takes it up again.
"""

from collections.abc import Sequence

import orjson
from sqlalchemy import ColumnElement, Engine, Row, RowMapping, Update, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from stream_app.errors import Conflict
from stream_app.ports import ENDED
from stream_app.storage.tables import jobs
from stream_app.values import Job, JobStatus

_QUEUED = jobs.c.status == JobStatus.QUEUED.value
_RUNNING = jobs.c.status == JobStatus.RUNNING.value


class SqlJobs:
    """`ports.Jobs` over the table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def request(self, model: str, trigger: str, *, now: float) -> tuple[Job, bool]:
        """Queue a retrain; if one is queued already return it and False."""
        while (job := self._queued(model)) is None:
            # The one that was in the way may be claimed before we look for it: then there is room for ours.
            if (job := self._insert(model, trigger, now)) is not None:
                return job, True
        return job, False

    def claim(self, *, holder: str, now: float, lease_s: float) -> Job | None:
        """Take the oldest job that is queued, or whose holder's lease ran out, and mark it running."""
        for row in self._claimable(now):
            if (job := self._take(row, holder, now, lease_s)) is not None:
                return job
        return None

    def renew(self, job_id: int, *, holder: str, now: float, lease_s: float) -> bool:
        """Extend the lease; False when it was lost: end the work."""
        return self._change(update(jobs).where(_held(job_id, holder)).values(lease_until=now + lease_s))

    def give_back(self, job: Job, *, holder: str, now: float) -> bool:
        """Let it be claimed again at once, with the job's `attempts` behind it; False when the lease was lost."""
        return self._change(update(jobs).where(_held(job.id, holder)).values(lease_until=now, attempts=job.attempts))

    def finish(self, job: Job, *, holder: str) -> bool:
        """Store the end state if the lease is still ours; False otherwise. Raises Conflict for another state."""
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
        return self._change(update(jobs).where(_held(job.id, holder)).values(result))

    def history(self, model: str | None = None, *, limit: int = 20) -> Sequence[Job]:
        """Return jobs, newest first."""
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(jobs.c.model == model)
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def _queued(self, model: str) -> Job | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.model == model, _QUEUED)).mappings().first()
        return None if row is None else _job(row)

    def _insert(self, model: str, trigger: str, now: float) -> Job | None:
        row = {
            "model": model,
            "trigger": trigger,
            "status": JobStatus.QUEUED.value,
            "requested_at": now,
            "attempts": 0,
            "reason": "",
            "verdict": "{}",
        }
        try:
            with self._engine.begin() as connection:
                return _job(connection.execute(jobs.insert().values(row).returning(jobs)).mappings().one())
        except IntegrityError:
            return None  # jobs_one_queued: somebody else was faster

    def _claimable(self, now: float) -> Sequence[Row[int, float | None]]:
        free = or_(_QUEUED, and_(_RUNNING, jobs.c.lease_until <= now))
        with self._engine.connect() as connection:
            return connection.execute(select(jobs.c.id, jobs.c.lease_until).where(free).order_by(jobs.c.id)).all()

    def _take(self, row: Row[int, float | None], holder: str, now: float, lease_s: float) -> Job | None:
        # As it was read, or somebody else took it meanwhile.
        unchanged = and_(jobs.c.id == row.id, jobs.c.lease_until.is_not_distinct_from(row.lease_until))
        taken = {
            "status": JobStatus.RUNNING.value,
            "holder": holder,
            "lease_until": now + lease_s,
            "started_at": func.coalesce(jobs.c.started_at, now),
            "attempts": jobs.c.attempts + 1,
        }
        query = update(jobs).where(unchanged, or_(_QUEUED, _RUNNING)).values(taken).returning(jobs)
        try:
            with self._engine.begin() as connection:
                changed = connection.execute(query).mappings().first()
        except IntegrityError:
            return None  # jobs_one_running: another job of this model is being worked on
        return None if changed is None else _job(changed)

    def _change(self, query: Update) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount == 1


def _held(job_id: int, holder: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, jobs.c.holder == holder, _RUNNING)


def _job(row: RowMapping) -> Job:
    fields = {name: value for name, value in row.items() if name not in {"holder", "lease_until"}}
    return Job(**fields | {"status": JobStatus(row["status"]), "verdict": orjson.loads(row["verdict"])})
