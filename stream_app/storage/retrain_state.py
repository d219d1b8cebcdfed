"""What the triggers of a model look at, read from the stores: the trainer decides by it, serving shows it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stream_app.core.triggers import RetrainState
from stream_app.errors import NotFound
from stream_app.job_ports import RETRAINING
from stream_app.ports import ENDED, Stores
from stream_app.values import Job, JobStatus

#: Newest jobs of a model that are looked at.
HISTORY: Final = 50


def retrain_state(stores: Stores, facts: Mapping[str, Any], history: Sequence[Job]) -> RetrainState:
    """Return the state of a model, given its line of `Registry.models` and its newest jobs, newest first."""
    # whichever way it ended: a retrain that fails each time must not start anew each second
    ended = next((job for job in history if job.status in ENDED and job.finished_at is not None), None)
    return RetrainState(
        rows=stores.log.rows_digest(facts["name"], through=facts["seq"])[0],
        rows_at_last=0 if ended is None else _rows_at(stores, ended),
        since=facts["created_at"] if ended is None or ended.finished_at is None else ended.finished_at,
        last_started_at=max((job.started_at for job in history if job.started_at is not None), default=None),
        is_queued=any(job.status is JobStatus.QUEUED for job in history),
        is_running=any(job.status is JobStatus.RUNNING for job in history),
        is_on=stores.switches.is_on(RETRAINING),
    )


def _rows_at(stores: Stores, ended: Job) -> int:
    if ended.through_seq is None:
        return 0
    try:
        return stores.log.rows_digest(ended.model, through=ended.through_seq)[0]
    except NotFound:  # retention dropped that window: whatever is left is younger
        return 0
