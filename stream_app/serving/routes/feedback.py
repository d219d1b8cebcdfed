"""What people know about predictions."""

import asyncio
from collections import Counter
from typing import Final

from fastapi import APIRouter, Request, Response

from stream_app.core.joining import Outcome
from stream_app.serving.declaring import door
from stream_app.serving.doors import Caller, Scope
from stream_app.serving.errors import Invalid, detail, json_response
from stream_app.serving.routes.predict import Model
from stream_app.serving.tools import CallerOf, Tools, ToolsOf

router = APIRouter(tags=["feedback"])

_ID: Final = "019aa1c52f4b5f0c7d0a4b3e8f61c2d90e7a3b5c8d1f"
_DOOR: Final = door(
    Scope.FEEDBACK,
    summary="Say whether a prediction was right, or what would have been",
    answers={
        200: (
            "what became of it, or `{feedback: […]}` for a list",
            {"prediction_id": _ID, "outcome": "learned", "model": "electricity"},
        )
    },
    errors={404: "no such model"},
    body={
        "verdict": {"prediction_id": _ID, "verdict": "wrong"},
        "label": {"prediction_id": _ID, "label": 1},
        "several": [{"prediction_id": _ID, "verdict": "correct"}],
        "whole": {"period": 0.5, "nswprice": 0.06, "prediction": 1, "feedback": "correct"},
    },
)


@router.post("/feedback", **_DOOR)
async def feedback(request: Request, tools: ToolsOf, caller: CallerOf, model: Model = None) -> Response:
    """Take in one feedback or a list; refused is 422, in a list each tells for itself."""
    return await asyncio.to_thread(_take, tools, caller, await request.body(), model)


def _take(tools: Tools, caller: Caller, body: bytes, model: str | None) -> Response:
    is_single, told = tools.feedback.take(body, model)
    outcomes = Counter(one.outcome.value for one in told)
    tools.note(caller, "feedback", model=told[0].model, outcomes=dict(outcomes), first=told[0].prediction_id)
    if not is_single:
        return json_response({"feedback": [one.row() for one in told]})
    if told[0].outcome is Outcome.REFUSED:
        raise Invalid([detail([], told[0].refusal or "refused", "value_error.feedback")])
    return json_response(told[0].row())
