"""What the routes work with, as the composition root hands it over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request

from stream_app.core.schema import Schema
from stream_app.model_settings import ModelSettings
from stream_app.ports import Clock, Deliver, Observer, Stores
from stream_app.serving.doors import Caller, Guard
from stream_app.serving.errors import Problem
from stream_app.serving.feedback import FeedbackDesk
from stream_app.serving.forms import Reader
from stream_app.serving.health import Health
from stream_app.serving.predicting import Predictor
from stream_app.serving.retrain_status import RetrainStatus
from stream_app.serving.retraining import Retrains
from stream_app.serving_ports import Audit, Deed, PredictionStore
from stream_app.subscriber import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything a route may need; what blocks is called in a thread."""

    #: by name, features and classes filled in
    models: Mapping[str, ModelSettings]
    schemas: Mapping[str, Schema]
    stores: Stores
    predictions: PredictionStore
    predictor: Predictor
    feedback: FeedbackDesk
    reader: Reader
    retrains: Retrains
    retrain_status: RetrainStatus
    #: the verified version that answers for a model here, None before the first
    served: Callable[[str], LoadedModel | None]
    guard: Guard
    audit: Audit
    #: to Kafka, delivery awaited
    deliver: Deliver
    health: Health
    max_records: int
    clock: Clock
    observe: Observer

    def note(self, caller: Caller, action: str, *, model: str | None = None, **details: Any) -> None:  # noqa: ANN401 - JSON
        """Write down who changed something; raises Outage."""
        self.audit.note(Deed(at=self.clock(), actor=caller.name, action=action, model=model, details=details))


def tools(request: Request) -> Tools:
    """Return the application's tools."""
    found: Tools = request.app.state.tools
    return found


async def _tools(request: Request) -> Tools:
    # a dependency that is no coroutine costs each request two switches of threads
    return tools(request)


async def caller(request: Request) -> Caller:
    """Return who asks, on a route with a scope."""
    found: Caller | None = getattr(request.state, "caller", None)
    if found is None:
        raise Problem(500, "a route without a scope asked who calls")
    return found


ToolsOf: TypeAlias = Annotated[Tools, Depends(_tools)]
CallerOf: TypeAlias = Annotated[Caller, Depends(caller)]
