"""Looking at the triggers: which model is due for a retrain, asked by one trainer at a time."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stream_app.core.triggers import Decision, Fire, RetrainState, policy_of
from stream_app.errors import NotFound
from stream_app.ports import ENDED, Clock, Observer, Stores
from stream_app.trainer.order import LEASE_S, Trainee
from stream_app.trainer.promotions import Promotions
from stream_app.values import Job, JobStatus

_LOG = logging.getLogger(__name__)
#: The lease of the trainer that looks.
NAME: Final = "stream-app-retrain-scheduler"
#: Seconds between two looks.
EVERY_S: Final = 1.0
#: Newest jobs of a model that are looked at.
_HISTORY: Final = 50


class Scheduler:
    """Requests the retrains that are due and follows up on promotions that were refused."""

    def __init__(
        self, stores: Stores, trainees: Mapping[str, Trainee], *, holder: str, clock: Clock, observe: Observer
    ) -> None:
        self._stores = stores
        self._policies = {model: policy_of(trainee.settings.retrain) for model, trainee in trainees.items()}
        self._promotions = Promotions(stores, clock=clock)
        self._holder = holder
        self._clock = clock
        self._observe = observe
        self._looked_at = float("-inf")
        #: by model, what was decided at the newest look, and why
        self.decisions: dict[str, Decision] = {}

    def look_if_due(self) -> None:
        """Look at all models, if the last look is long enough ago and no other trainer looks."""
        now = self._clock()
        if now - self._looked_at < EVERY_S:
            return
        self._looked_at = now
        if self._stores.leases.acquire(NAME, holder=self._holder, now=now, lease_s=LEASE_S):
            for facts in self._stores.registry.models():
                if facts["name"] in self._policies:
                    self._look(facts, now)

    def give_back(self) -> None:
        """Let another trainer look."""
        self._stores.leases.release(NAME, holder=self._holder)

    def _look(self, facts: Mapping[str, Any], now: float) -> None:
        model = str(facts["name"])
        history = self._stores.jobs.history(model, limit=_HISTORY)
        self._promotions.follow_up(model, history)
        decision = self._policies[model].decide(self._state(facts, history), now)
        if isinstance(decision, Fire):
            job, is_new = self._stores.jobs.request(model, decision.trigger, now=now)
            if is_new:
                _LOG.info("%s: retrain %d requested: %s", model, job.id, decision.reason)
        elif type(decision) is not type(self.decisions.get(model)):
            _LOG.info("%s: no retrain: %s", model, decision.reason)
        self.decisions[model] = decision
        self._observe("model_age", amount=now - _newest_verdict(history, facts["created_at"]), model=model)

    def _state(self, facts: Mapping[str, Any], history: Sequence[Job]) -> RetrainState:
        # whichever way it ended: a retrain that fails each time must not start anew each second
        ended = next((job for job in history if job.status in ENDED and job.finished_at is not None), None)
        return RetrainState(
            rows=self._stores.log.rows_digest(facts["name"], through=facts["seq"])[0],
            rows_at_last=0 if ended is None else self._rows_at(ended),
            since=facts["created_at"] if ended is None or ended.finished_at is None else ended.finished_at,
            last_started_at=max((job.started_at for job in history if job.started_at is not None), default=None),
            is_queued=any(job.status is JobStatus.QUEUED for job in history),
            is_running=any(job.status is JobStatus.RUNNING for job in history),
        )

    def _rows_at(self, ended: Job) -> int:
        if ended.through_seq is None:
            return 0
        try:
            return self._stores.log.rows_digest(ended.model, through=ended.through_seq)[0]
        except NotFound:  # retention dropped that window: whatever is left is younger
            return 0


def _newest_verdict(history: Sequence[Job], otherwise: float) -> float:
    verdicts = (job.finished_at for job in history if job.status in {JobStatus.SUCCEEDED, JobStatus.REJECTED})
    return next((at for at in verdicts if at is not None), otherwise)
