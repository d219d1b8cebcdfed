"""Automatic retraining: on and off, by hand, and what became of it."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from stream_app.job_ports import RETRAINING
from stream_app.serving.declaring import door
from stream_app.serving.doors import Caller, Scope
from stream_app.serving.errors import json_response
from stream_app.serving.tools import CallerOf, Tools, ToolsOf

router = APIRouter(prefix="/retraining", tags=["retraining"])

_ON: Final = {"status": "started", "is_running": True, "message": "automatic retraining is on"}
_OFF: Final = {"status": "stopped", "is_running": False, "message": "automatic retraining is off"}
_TRIGGERED: Final = {"status": "triggered", "model_name": "iris", "job": 7, "message": "retrain 7 is queued"}
_EVENT: Final = {
    "model_name": "iris",
    "trigger_type": "volume",
    "trigger_time": "2026-11-21T12:00:00",
    "status": "success",
    "duration": 45.2,
    "data_hash": "9f86d081884c7d65",
    "description": "accuracy 0.96 beats 0.94",
}


@router.post("/start", **door(Scope.TRAIN, summary="Turn automatic retraining on", answers={200: ("it is on", _ON)}))
async def start(tools: ToolsOf, caller: CallerOf) -> Response:
    """Let triggers start retrains again; what was on stays on."""
    await asyncio.to_thread(_turn, tools, caller, on=True)
    return json_response(_ON)


@router.post("/stop", **door(Scope.TRAIN, summary="Turn automatic retraining off", answers={200: ("it is off", _OFF)}))
async def stop(tools: ToolsOf, caller: CallerOf) -> Response:
    """Keep triggers from starting retrains; one that runs goes on, and requests are still carried out."""
    await asyncio.to_thread(_turn, tools, caller, on=False)
    return json_response(_OFF)


def _turn(tools: Tools, caller: Caller, *, on: bool) -> None:
    tools.stores.switches.turn(RETRAINING, on=on, by=caller.name, now=tools.clock())
    tools.note(caller, "retraining.start" if on else "retraining.stop")


@router.post(
    "/trigger/{model_name}",
    **door(
        Scope.TRAIN,
        summary="Retrain a model now",
        answers={200: ("it is queued, or runs already", _TRIGGERED)},
        errors={400: "there is nothing to learn from", 404: "no such model"},
    ),
)
async def trigger(model_name: str, tools: ToolsOf, caller: CallerOf) -> Response:
    """Queue a retrain, whatever the triggers say."""
    return json_response(await asyncio.to_thread(_trigger, tools, caller, model_name))


def _trigger(tools: Tools, caller: Caller, model: str) -> dict[str, Any]:
    job, is_new = tools.retrains.request(model)
    tools.note(caller, "retrain", model=model, job=job.id)
    status = "triggered" if is_new else "already_running"
    return {"status": status, "model_name": model, "job": job.id, "message": f"retrain {job.id} is {job.status.value}"}


@router.get(
    "/status",
    **door(
        Scope.READ,
        summary="Whether automatic retraining is on, and how far each model is",
        answers={200: ("the status", {"is_running": True, "models": {"iris": {"is_retraining": False}}})},
    ),
)
async def status(tools: ToolsOf) -> Response:
    """Look at the switch and at every model."""
    return json_response(await asyncio.to_thread(tools.retrain_status.running))


@router.get(
    "/history",
    **door(
        Scope.READ,
        summary="Retrains, newest first",
        answers={200: ("the history", {"history": [_EVENT]})},
        errors={404: "no such model", 422: "`limit` or `model_name` does not fit"},
    ),
)
async def history(
    tools: ToolsOf,
    model_name: Annotated[str | None, Query(max_length=64, description="only this model's")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="at most so many")] = 20,
) -> Response:
    """Return every retrain, whoever asked for it and however it ended."""
    events = await asyncio.to_thread(tools.retrain_status.history, model_name, limit=limit)
    return json_response({"history": events})
