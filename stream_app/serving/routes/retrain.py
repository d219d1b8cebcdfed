"""Full retrains by request: `/retrain` with or without samples, and how far they are."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from stream_app.serving.declaring import door
from stream_app.serving.decoding import decode
from stream_app.serving.doors import Scope
from stream_app.serving.errors import Problem, json_response
from stream_app.serving.retrain_status import classifier
from stream_app.serving.samples import invalid
from stream_app.serving.tools import CallerOf, Tools, ToolsOf
from stream_app.storage.retraining_lines import iso
from stream_app.values import Job

router = APIRouter(tags=["retrain"])

_SAMPLE: Final = {"MedInc": 8.3252, "HouseAge": 41.0, "MedHouseValue": 4.526}
_STARTED: Final = {
    "status": "started",
    "message": "Model retraining started in background",
    "timestamp": "2026-11-21T14:30:00",
    "model": "housing",
    "job": 7,
}
_TRIGGERED: Final = {
    "status": "Retraining triggered successfully!",
    "samples_received": 1,
    "training_file": "artifacts/retraining/new_training_data_2026-11-21T14-30-00.123456.json",
    "message": "Retraining is running in the background. Check logs for progress.",
    "timestamp": "2026-11-21T14:30:00",
    "model": "housing",
    "job": 7,
}
_STATUS: Final = {
    "status": "ok",
    "recent_retraining_logs": [],
    "retrain_status": {"next_retrain_recommended": "Not yet - need 25 more rows"},
    "current_model_status": {"ml_classifier_loaded": True, "ml_labels_count": 2, "transformer_loaded": False},
    "current_count": 75,
    "threshold": 100,
    "remaining": 25,
    "progress_percent": 75.0,
}
_MODEL_NAME: Final = "model"
Model = Annotated[str | None, Query(max_length=64, description="which model; default: the server's")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="newest lines of the retraining logs")]


@router.post(
    "/retrain",
    **door(
        Scope.TRAIN,
        summary="Retrain a model in full, with the samples of the body if there are any",
        answers={200: ("it is queued, or runs already", {"without samples": _STARTED, "with samples": _TRIGGERED})},
        errors={400: "it cannot be carried out", 404: "no such model", 413: "too long", 422: "no samples of the model"},
        optional_body={"one": _SAMPLE, "several": [_SAMPLE, _SAMPLE]},
    ),
)
async def retrain(request: Request, tools: ToolsOf, caller: CallerOf, model: Model = None) -> Response:
    """Take samples in, all or none, and queue a retrain that waits for them; without a body retrain on the log."""
    body = await request.body()
    value: Any = decode(body) if body.strip() else None
    name = _named(tools, value, model)
    if value in (None, {}, {_MODEL_NAME: name}):
        answer = await asyncio.to_thread(_request, tools, name)
    else:
        answer = await asyncio.to_thread(_with_samples, tools, name, value)
    await asyncio.to_thread(lambda: tools.note(caller, "retrain", model=name, job=answer["job"]))
    return json_response(answer)


def _named(tools: Tools, value: Any, model: str | None) -> str:  # noqa: ANN401 - whatever was sent
    """Return the model that is meant; an empty array or a scalar names none, and is refused as samples."""
    if isinstance(value, list) and not value:
        raise invalid([{"loc": [], "msg": "0 samples, expected at least one", "type": "value_error.count"}])
    if value is not None and not isinstance(value, dict | list):
        raise invalid([{"loc": [], "msg": "expected an object or an array of objects", "type": "type_error.object"}])
    return tools.reader.model(value, model)


def _request(tools: Tools, model: str) -> dict[str, Any]:
    job, is_new = tools.retrains.request(model)
    if is_new:
        status, message = "started", "Model retraining started in background"
    else:
        status, message = "already_running", f"retrain {job.id} is {job.status.value}"
    return {"status": status, "message": message, **_about(tools, job)}


def _with_samples(tools: Tools, model: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever was sent
    job, taken = tools.retrains.with_samples(model, value, most=tools.max_records)
    return {
        "status": "Retraining triggered successfully!",
        "samples_received": taken.count,
        "training_file": taken.file,
        "message": "Retraining is running in the background. Check logs for progress.",
        **_about(tools, job),
    }


def _about(tools: Tools, job: Job) -> dict[str, Any]:
    return {"timestamp": iso(tools.clock()), "model": job.model, "job": job.id}


_STATUS_DOOR: Final = door(
    Scope.READ,
    summary="How far a model's next retrain is, and how the newest ended",
    answers={200: ("the status", _STATUS)},
    errors={404: "no such model", 422: "`limit` or `model` does not fit"},
)


@router.get("/retrain/status", **_STATUS_DOOR)
async def status(tools: ToolsOf, model: Model = None, limit: Limit = 20) -> Response:
    """Return the union of what the documents ask for."""
    return json_response(await asyncio.to_thread(_status, tools, model, limit))


@router.get("/retrain_status", **_STATUS_DOOR)
async def status_underscored(tools: ToolsOf, model: Model = None, limit: Limit = 20) -> Response:
    """Return the same under the name that the liver document uses."""
    return await status(tools, model, limit)


def _status(tools: Tools, model: str | None, limit: int) -> dict[str, Any]:
    name = tools.reader.model(None, model)
    return tools.retrain_status.of(name, tools.served(name), limit=limit)


@router.get(
    "/health",
    **door(
        Scope.READ,
        summary="Whether it can answer, with the classifier and the retrains",
        answers={200: ("it can answer; `degraded` when something waits", {"status": "ok"})},
    ),
)
async def health(tools: ToolsOf) -> Response:
    """Return readiness beside what the intents and liver documents ask for."""
    code, body = tools.health.ready()
    return json_response({**body, **await asyncio.to_thread(_about_models, tools)}, code)


def _about_models(tools: Tools) -> dict[str, Any]:
    try:
        default = tools.reader.model(None, None)
    except Problem:  # several models and none of them the default
        return {"retraining": tools.retrain_status.running()}
    loaded = classifier(tools.served(default))
    return {
        "enhanced_classifier": {**loaded, "ml_classifier_available": True},
        "retraining": tools.retrain_status.running(),
    }
