"""The models: where they stand, their versions, their curves, and which version serves."""

import asyncio
import time
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from stream_app.errors import Conflict
from stream_app.serving.declaring import door
from stream_app.serving.decoding import decode
from stream_app.serving.doors import Caller, Scope
from stream_app.serving.errors import Invalid, detail, json_response
from stream_app.serving.tools import CallerOf, Tools, ToolsOf
from stream_app.storage.asking import ask_for
from stream_app.storage.standing import described, series, standing_of, standings

router = APIRouter(tags=["models"])

#: Seconds that a request waits for the model's worker to answer.
ANSWER_S: Final = 10.0
_STANDING: Final = {
    "model": "electricity",
    "windows": 57,
    "learned": 45_312,
    "champion": 3,
    "promotion_seq": 42,
    "metric": "accuracy",
    "score": 0.874,
    "rolling": 0.881,
    "drifts": 4,
    "served": {"version": "3", "digest": "9f86d081884c7d65", "freshness_s": 1.2},
}
_ASKED: Final = {"model": "electricity", "version": 3, "accepted": True, "request": 9, "reason": ""}
_WAITS: Final = {**_ASKED, "accepted": None, "reason": "no worker has answered yet: it is carried out once one does"}
_NONE: Final = {404: "no such model, or no worker has taken it over yet"}


@router.get(
    "/models", **door(Scope.READ, summary="Where every model stands", answers={200: ("all", {"models": [_STANDING]})})
)
async def all_models(tools: ToolsOf) -> Response:
    """Return log, scores, champion, newest retrain and what answers here, by model."""
    return json_response(await asyncio.to_thread(_all, tools))


@router.get("/status", **door(Scope.READ, summary="The same as /models", answers={200: ("all", {"models": []})}))
async def status(tools: ToolsOf) -> Response:
    """Return what `stream-app status` prints."""
    return await all_models(tools)


def _all(tools: Tools) -> dict[str, Any]:
    known = {row["model"]: row for row in standings(tools.stores)}
    missing = {"windows": 0, "learned": 0, "champion": 0, "score": None}
    return {"models": [_with_served(tools, known.get(name) or {"model": name, **missing}) for name in tools.models]}


def _with_served(tools: Tools, row: dict[str, Any]) -> dict[str, Any]:
    loaded = tools.served(row["model"])
    served = None
    if loaded is not None:
        fresh = round(tools.clock() - loaded.trained_through_at, 3)
        served = {"version": loaded.version, "digest": loaded.digest, "freshness_s": fresh}
    return {**row, "served": served}


@router.get("/models/{name}", **door(Scope.READ, summary="One model", answers={200: ("it", _STANDING)}, errors=_NONE))
async def one_model(name: str, tools: ToolsOf) -> Response:
    """Return where it stands, and what a record of it looks like."""
    return json_response(await asyncio.to_thread(_one, tools, name))


def _one(tools: Tools, name: str) -> dict[str, Any]:
    schema = tools.retrains.schema(name)
    return {
        **_with_served(tools, standing_of(tools.stores, name)),
        "task": schema.task.value,
        "target": schema.target,
        "classes": list(schema.classes),
        "features": [
            {"name": f.name, "type": f.type, "low": f.low, "high": f.high, "required": f.required, "values": f.values}
            for f in schema.fields
        ],
    }


@router.get(
    "/models/{name}/versions",
    **door(Scope.READ, summary="A model's versions", answers={200: ("newest first", {"versions": []})}, errors=_NONE),
)
async def versions(name: str, tools: ToolsOf) -> Response:
    """Return every version with its lineage and scores."""
    return json_response(await asyncio.to_thread(_versions, tools, name))


def _versions(tools: Tools, name: str) -> dict[str, Any]:
    tools.retrains.schema(name)
    registry = tools.stores.registry
    champion, _ = registry.champion(name)
    return {"versions": [described(version, champion) for version in registry.versions(name)]}


@router.get(
    "/models/{name}/history",
    **door(
        Scope.READ,
        summary="A model's curves",
        answers={200: ("one point a window, oldest first", {"points": [{"seq": 57, "online": 0.88, "served": 0.87}]})},
        errors={**_NONE, 422: "`newest` does not fit"},
    ),
)
async def history(
    name: str, tools: ToolsOf, newest: Annotated[int, Query(ge=1, le=10_000, description="so many points")] = 500
) -> Response:
    """Return the rolling scores: online, served, and what the baselines would have scored."""
    tools.retrains.schema(name)
    points = await asyncio.to_thread(series, tools.stores, name, newest=newest)
    return json_response({"model": name, "points": points})


_CHANGE: Final[dict[str, Any]] = {
    "answers": {200: ("it serves from the next window on", _ASKED), 202: ("nobody has answered yet", _WAITS)},
    "errors": {404: "no such model or version", 409: "refused, with the reason"},
}


@router.post(
    "/models/{name}/promote",
    **door(Scope.PROMOTE, summary="Let a version serve", body={"version": {"version": 3}}, **_CHANGE),
)
async def promote(name: str, request: Request, tools: ToolsOf, caller: CallerOf) -> Response:
    """Ask the model's worker to let a version serve, and wait for its answer."""
    version = _version(decode(await request.body()))
    return await asyncio.to_thread(_ask, tools, caller, name, "promote", version)


@router.post(
    "/models/{name}/rollback",
    **door(
        Scope.PROMOTE,
        summary="Let an earlier version serve again",
        optional_body={"version": {"version": 2}},
        **_CHANGE,
    ),
)
async def rollback(name: str, request: Request, tools: ToolsOf, caller: CallerOf) -> Response:
    """Ask the model's worker to go back to a version; without one, to what served before."""
    body = await request.body()
    version = _version(decode(body)) if body.strip() else None
    return await asyncio.to_thread(_ask, tools, caller, name, "rollback", version)


def _version(body: Any) -> int:  # noqa: ANN401 - whatever was sent
    if not isinstance(body, dict):
        raise Invalid([detail([], "expected an object", "type_error.object")])
    version = body.get("version")
    if version is None:
        raise Invalid([detail(["version"], "field required", "value_error.missing")])
    if type(version) is not int or version < 1:
        raise Invalid(
            [detail(["version"], f"expected a version's number, got {str(version)[:40]!r}", "type_error.int")]
        )
    return version


def _ask(
    tools: Tools, caller: Caller, model: str, kind: Literal["promote", "rollback"], version: int | None
) -> Response:
    tools.retrains.schema(model)
    asked = ask_for(tools.stores, model, kind, version, by=f"api:{caller.name}")
    tools.note(caller, kind, model=model, version=asked.version, request=asked.request)
    answer = {"model": model, "version": asked.version, "request": asked.request}
    deadline = time.monotonic() + ANSWER_S
    while (entry := tools.stores.control.answer(asked.request)) is None:
        if time.monotonic() > deadline:
            return json_response({**answer, "accepted": None, "reason": _WAITS["reason"]}, 202)
        time.sleep(0.05)
    if not entry.accepted:
        raise Conflict(f"{model}: {entry.reason}")
    return json_response({**answer, "accepted": True, "reason": entry.reason})
