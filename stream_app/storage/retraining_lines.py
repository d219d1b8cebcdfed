"""The table `retraining_logs`: one line for each request with samples and for each job, as §000 reads them.

Written in the transactions of the job queue, so that a line can neither be missing nor stay open.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, Engine, exists, select, update

from stream_app.job_ports import RetrainingLine, Samples
from stream_app.storage.serving_tables import retraining_log_jobs, retraining_logs
from stream_app.values import Job, JobStatus

_STARTED: Final = "STARTED"
#: Most characters kept of what a job printed: the end, where it says how it ended.
_LONGEST: Final = 65_536


def open_line(connection: Connection, job_id: int, samples: Samples | None, *, now: float) -> None:
    """Add a line for what a job is to answer."""
    line = {
        "timestamp": iso(now),
        "sample_count": None if samples is None else samples.count,
        "training_file": None if samples is None else samples.file,
        "status": _STARTED,
    }
    log_id = connection.execute(retraining_logs.insert().values(line).returning(retraining_logs.c.id)).scalar_one()
    connection.execute(retraining_log_jobs.insert().values(log_id=log_id, job_id=job_id))


def iso(at: float) -> str:
    """Return a moment as the documents write it: ISO 8601 without an offset; it is UTC."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat()


def has_line(connection: Connection, job_id: int) -> bool:
    """Return whether somebody opened a line for the job."""
    return bool(connection.execute(select(exists().where(retraining_log_jobs.c.job_id == job_id))).scalar())


def close_lines(connection: Connection, job: Job, output: str) -> None:
    """Say in all lines of a job how it ended: the verdict is the last of what it printed, or the error."""
    status, stdout, stderr = ending(job, output)
    ended = {"status": status, "stdout": stdout, "stderr": stderr}
    ours = select(retraining_log_jobs.c.log_id).where(retraining_log_jobs.c.job_id == job.id)
    connection.execute(update(retraining_logs).where(retraining_logs.c.id.in_(ours)).values(ended))


def ending(job: Job, output: str) -> tuple[str, str, str | None]:
    """Return status, stdout and stderr of the lines of a job that has ended."""
    if job.status in {JobStatus.FAILED, JobStatus.CANCELLED}:
        return "FAILED", output[-_LONGEST:], job.reason
    return "COMPLETED", f"{output}{job.status.value}: {job.reason}\n"[-_LONGEST:], None


def newest_lines(engine: Engine, limit: int) -> Sequence[RetrainingLine]:
    """Return the newest lines, newest first."""
    query = select(retraining_logs).order_by(retraining_logs.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        return [RetrainingLine(**row) for row in connection.execute(query).mappings()]
