"""Is it alive, can it answer, what is it: the same paths and shapes as of worker and trainer."""

from typing import Final

from fastapi import APIRouter, Request, Response

from stream_app import __version__
from stream_app.serving.declaring import door
from stream_app.serving.doors import Scope
from stream_app.serving.errors import json_response
from stream_app.serving.tools import ToolsOf

router = APIRouter(tags=["health"])

_OK: Final = {"status": "ok", "checks": {"models": {"ok": True, "detail": ""}}}
_READY: Final = {200: ("it can answer; `degraded` when something waits, e.g. for the broker", _OK)}
_VERSION: Final = {"name": "stream-app", "version": __version__}


@router.get("/livez", **door(None, summary="Whether the process is alive", answers={200: ("it is", _OK)}))
async def livez(tools: ToolsOf) -> Response:
    """Look at what only a new start would mend."""
    status, body = tools.health.alive()
    return json_response(body, status)


@router.get("/readyz", **door(None, summary="Whether it can answer", answers=_READY))
async def readyz(tools: ToolsOf) -> Response:
    """Look at every check."""
    status, body = tools.health.ready()
    return json_response(body, status)


@router.get("/healthz", **door(Scope.READ, summary="The same as /readyz", answers=_READY))
async def healthz(tools: ToolsOf) -> Response:
    """Look at every check."""
    return await readyz(tools)


@router.get("/version", **door(None, summary="What runs here", answers={200: ("name and version", _VERSION)}))
async def version() -> Response:
    """Say it."""
    return json_response(_VERSION)


@router.get("/metrics", **door(Scope.READ, summary="Metrics for Prometheus", answers={200: ("metrics", "")}))
async def metrics(tools: ToolsOf) -> Response:
    """Return the exposition."""
    return Response(tools.health.exposition(), media_type=tools.health.content_type)


@router.get("/openapi.json", **door(Scope.READ, summary="This document", answers={200: ("OpenAPI 3.1", {})}))
async def openapi(request: Request) -> Response:
    """Return the description of all routes."""
    return json_response(request.app.openapi())
