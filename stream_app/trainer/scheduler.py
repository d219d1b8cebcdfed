"""Looking at the triggers: which model is due for a retrain, asked by one trainer at a time."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stream_app.core.triggers import Decision, Fire, policy_of
from stream_app.ports import Clock, Observer, Stores
from stream_app.storage.retrain_state import HISTORY, retrain_state
from stream_app.trainer.order import LEASE_S, Trainee
from stream_app.trainer.promotions import Promotions
from stream_app.values import Job, JobStatus

_LOG = logging.getLogger(__name__)
#: The lease of the trainer that looks.
NAME: Final = "stream-app-retrain-scheduler"
#: Seconds between two looks.
EVERY_S: Final = 1.0


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
        history = self._stores.jobs.history(model, limit=HISTORY)
        self._promotions.follow_up(model, history)
        decision = self._policies[model].decide(retrain_state(self._stores, facts, history), now)
        if isinstance(decision, Fire):
            job, is_new = self._stores.jobs.request(model, decision.trigger, now=now)
            if is_new:
                _LOG.info("%s: retrain %d requested: %s", model, job.id, decision.reason)
        elif type(decision) is not type(self.decisions.get(model)):
            _LOG.info("%s: no retrain: %s", model, decision.reason)
        self.decisions[model] = decision
        self._observe("model_age", amount=now - _newest_verdict(history, facts["created_at"]), model=model)


def _newest_verdict(history: Sequence[Job], otherwise: float) -> float:
    verdicts = (job.finished_at for job in history if job.status in {JobStatus.SUCCEEDED, JobStatus.REJECTED})
    return next((at for at in verdicts if at is not None), otherwise)
