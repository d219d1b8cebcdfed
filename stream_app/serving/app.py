"""The application: every route behind the limits, every error in the one shape."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from stream_app import __version__
from stream_app.serving import errors
from stream_app.serving.declaring import ERROR_SCHEMA, SECURITY_SCHEMES
from stream_app.serving.limits import Bounds
from stream_app.serving.routes import ROUTERS
from stream_app.serving.tools import Tools
from stream_app.settings import ServeSettings


def build_api(tools: Tools, settings: ServeSettings) -> Bounds:
    """Return the ASGI application."""
    app = _Described(title="stream-app", version=__version__, openapi_url=None, redirect_slashes=False)
    app.state.tools = tools
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return Bounds(app, max_body_bytes=settings.max_body_bytes, timeout_s=settings.timeout_s, observe=tools.observe)


class _Described(FastAPI):
    """Describes itself with the shapes that all routes share."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, made once."""
        if not self.openapi_schema:
            described = get_openapi(title=self.title, version=self.version, routes=self.routes)
            shared = described.setdefault("components", {})
            shared.setdefault("schemas", {})["Error"] = ERROR_SCHEMA
            shared["securitySchemes"] = SECURITY_SCHEMES
            self.openapi_schema = described
        return self.openapi_schema
