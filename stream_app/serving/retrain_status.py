"""How far a model's next retrain is and how the last ones ended, in the documents' words, from the triggers' state."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from stream_app.core.triggers import Decision, Fire, NotYet, RetrainState, Volume, policy_of
from stream_app.errors import NotFound
from stream_app.job_ports import RETRAINING
from stream_app.model_settings import ModelSettings
from stream_app.ports import Clock, Stores
from stream_app.storage.retrain_state import HISTORY, retrain_state
from stream_app.storage.retraining_lines import iso
from stream_app.subscriber import LoadedModel
from stream_app.values import Job, JobStatus

_DAY_S: Final = 86_400
#: Our words for how a job ended in those of the retraining history.
_ENDED: Final = {JobStatus.SUCCEEDED: "success", JobStatus.REJECTED: "success", JobStatus.FAILED: "failed"}


class RetrainStatus:
    """Answers questions about retrains; blocks."""

    def __init__(self, stores: Stores, models: Mapping[str, ModelSettings], *, clock: Clock) -> None:
        self._stores = stores
        self._models = models
        self._clock = clock

    def of(self, model: str, loaded: LoadedModel | None, *, limit: int) -> dict[str, Any]:
        """Return the whole status of a model; `loaded` is what answers for it here."""
        now, facts = self._clock(), self._facts(model)
        history = self._stores.jobs.history(model, limit=HISTORY)
        state = self._state(facts, history)
        decision = policy_of(self._models[model].retrain).decide(state, now)
        return {
            "status": "ok",
            "model": model,
            "recent_retraining_logs": [asdict(line) for line in self._stores.jobs.lines(limit=limit)],
            "retrain_status": {
                "last_retrain": _last_retrain(history),
                "next_retrain_recommended": _recommended(decision),
                "logged_data_status": self._data(model, facts, state, now),
                "model_status": _model_status(loaded, now),
                "recommendations": _recommendations(decision),
            },
            "current_model_status": classifier(loaded),
            **_counter(self._models[model], state),
            "model_version": None if loaded is None else loaded.version,
            "timestamp": iso(now),
        }

    def running(self) -> dict[str, Any]:
        """Return whether automatic retraining is on, and each model's newest retrain and decision."""
        return {
            "is_running": self._stores.switches.is_on(RETRAINING),
            "models": {name: self._brief(name) for name in self._models},
            "timestamp": iso(self._clock()),
        }

    def history(self, model: str | None, *, limit: int) -> list[dict[str, Any]]:
        """Return retrains, newest first; raises NotFound for an unknown model."""
        if model is not None and model not in self._models:
            raise NotFound(f"no model {model[:64]!r}; expected one of: {', '.join(self._models)}")
        return [self._entry(job) for job in self._stores.jobs.history(model, limit=limit)]

    def _brief(self, model: str) -> dict[str, Any]:
        settings, facts = self._models[model].retrain, self._facts(model)
        history = self._stores.jobs.history(model, limit=HISTORY)
        state = self._state(facts, history)
        decision = policy_of(settings).decide(state, self._clock())
        return {
            "enabled": settings.enabled,
            "is_retraining": state.is_running,
            "is_queued": state.is_queued,
            "last_retrain": _last_retrain(history),
            "next_retrain_recommended": _recommended(decision),
            **_counter(self._models[model], state),
        }

    def _state(self, facts: Mapping[str, Any], history: Sequence[Job]) -> RetrainState:
        if facts:
            return retrain_state(self._stores, facts, history)
        # no worker has taken the model over yet
        return RetrainState(
            rows=0, rows_at_last=0, since=self._clock(), last_started_at=None, is_queued=False, is_running=False
        )

    def _facts(self, model: str) -> Mapping[str, Any]:
        return next((facts for facts in self._stores.registry.models() if facts["name"] == model), {})

    def _data(self, model: str, facts: Mapping[str, Any], state: RetrainState, now: float) -> dict[str, Any]:
        newest = next(iter(self._stores.log.metrics(model, newest=1)), None) if facts else None
        at = None if newest is None else float(newest["closed_at"])
        return {
            "last_updated": None if at is None else iso(at),
            "days_old": None if at is None else int((now - at) // _DAY_S),
            "sample_count": state.rows - state.rows_at_last,
            "total_count": state.rows,
        }

    def _entry(self, job: Job) -> dict[str, Any]:
        return {
            "model_name": job.model,
            "trigger_type": job.trigger,
            "trigger_time": iso(job.requested_at),
            "status": _ENDED.get(job.status, job.status.value),
            "duration": None if job.finished_at is None else round(job.finished_at - (job.started_at or 0.0), 3),
            "data_hash": self._data_hash(job),
            "description": job.reason,
            "id": job.id,
            "outcome": job.status.value,
            "version": job.version,
            "verdict": dict(job.verdict),
        }

    def _data_hash(self, job: Job) -> str | None:
        if job.through_seq is None:
            return None
        try:
            return self._stores.log.rows_digest(job.model, through=job.through_seq)[1]
        except NotFound:  # retention dropped that window
            return None


def classifier(loaded: LoadedModel | None) -> dict[str, Any]:
    """Return what answers here, in the words of the intents document."""
    return {
        "ml_classifier_loaded": loaded is not None,
        "ml_labels_count": 0 if loaded is None else len(loaded.schema.classes),
        "transformer_loaded": False,
    }


def _last_retrain(history: Sequence[Job]) -> str | None:
    ended = (job.finished_at for job in history if job.status in {JobStatus.SUCCEEDED, JobStatus.REJECTED})
    newest = next((at for at in ended if at is not None), None)
    return None if newest is None else iso(newest)


def _recommended(decision: Decision) -> str:
    if isinstance(decision, Fire):
        return f"Now - {decision.reason}"
    if isinstance(decision, NotYet) and decision.progress:
        return f"Not yet - need {' or '.join(one.missing for one in decision.progress)}"
    return f"Not now - {decision.reason}"


def _recommendations(decision: Decision) -> list[str]:
    if isinstance(decision, Fire):
        return ["Consider running retraining pipeline"]
    return []


def _model_status(loaded: LoadedModel | None, now: float) -> dict[str, Any]:
    if loaded is None:
        return {"last_updated": None, "days_old": None, "exists": False}
    days = int((now - loaded.trained_through_at) // _DAY_S)
    return {"last_updated": iso(loaded.loaded_at), "days_old": days, "exists": True}


def _counter(settings: ModelSettings, state: RetrainState) -> dict[str, Any]:
    """Return how far the volume trigger is."""
    current, threshold = state.rows - state.rows_at_last, settings.retrain.every_records
    if threshold is None:
        return {"current_count": current, "threshold": None, "remaining": None, "progress_percent": None}
    progress = Volume(threshold).look(state, 0.0)
    share = 1.0 if isinstance(progress, Fire) else progress.progress[0].share
    return {
        "current_count": current,
        "threshold": threshold,
        "remaining": max(0, threshold - current),
        "progress_percent": round(100 * share, 1),
    }
