"""Predictions: one record or many, in each of the forms that `forms` knows."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from stream_app.serving.declaring import door
from stream_app.serving.doors import Scope
from stream_app.serving.errors import raw_json
from stream_app.serving.tools import Tools, ToolsOf

router = APIRouter(tags=["predict"])

_ONE: Final = {
    "prediction_id": "019aa1c52f4b5f0c7d0a4b3e8f61c2d90e7a3b5c8d1f",
    "model": "electricity",
    "version": "1.57",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "prediction": 1,
    "probability": 0.73,
    "probabilities": {"0": 0.27, "1": 0.73},
    "served_at": "2026-11-21T15:53:46.120000Z",
}
_RECORD: Final = {"period": 0.5, "nswprice": 0.06}
_DOOR: Final = door(
    Scope.PREDICT,
    summary="Predict one record or many",
    answers={200: ("one prediction, or `{predictions: […]}` for many", _ONE)},
    errors={404: "no such model"},
    body={
        "one": _RECORD,
        "features": {"features": _RECORD},
        "several": [_RECORD, _RECORD],
        "records": {"records": [_RECORD], "model": "electricity"},
        "labelled": {"raw_features": [_RECORD], "true_labels": [1]},
    },
)
Model = Annotated[str | None, Query(max_length=64, description="which model; default: the server's")]


@router.post("/predict", **_DOOR)
async def predict(request: Request, tools: ToolsOf, model: Model = None) -> Response:
    """Ask the model that query, body or settings name."""
    return await _answer(request, tools, model)


@router.post("/models/{name}/predict", **_DOOR)
async def predict_with(request: Request, tools: ToolsOf, name: str) -> Response:
    """Ask the model that the path names."""
    return await _answer(request, tools, name)


async def _answer(request: Request, tools: Tools, model: str | None) -> Response:
    body = await request.body()
    if tools.predictor.is_quick(body):
        return raw_json(tools.predictor.answer(body, model))
    return raw_json(await asyncio.to_thread(tools.predictor.answer, body, model))
