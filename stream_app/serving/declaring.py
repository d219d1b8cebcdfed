"""How a route declares itself: its scope, its body, and every status that it may answer with."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from fastapi import Depends, Request

from stream_app.serving.doors import Scope
from stream_app.serving.tools import tools

#: By status: words, and an example of the body.
Answers: TypeAlias = Mapping[int, tuple[str, object]]

ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error", "details"],
    "properties": {
        "error": {"type": "string", "description": "what went wrong, in words"},
        "details": {
            "type": "array",
            "description": "where in the request it lies; empty when it does not",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        },
    },
}
SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
#: What stands in the document for a route that needs no key; one without any word was forgotten.
NO_SCOPE: Final = "none"
_JSON: Final = "application/json"
_ERROR: Final = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
_ALWAYS: Final = {500: "something went wrong here", 503: "not now: see Retry-After, or the checks in the body"}
_GUARDED: Final = {
    401: "no valid API key",
    403: "the API key lacks the scope, or the request comes from elsewhere",
    422: "the request does not fit: see `details`",
    429: "too many requests: see Retry-After",
}
_WITH_BODY: Final = {413: "the body is too long"}


def door(
    scope: Scope | None,
    *,
    summary: str,
    answers: Answers,
    errors: Mapping[int, str] | None = None,
    body: Mapping[str, object] | None = None,
    optional_body: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return what to hand to `router.get` and its kin for a route that needs this scope; None needs no key.

    `body` are examples of a JSON body by name, the first of them the form to prefer; None: the route reads none.
    `optional_body` are the same for a route that does without, too.
    `errors` are statuses beside those that every such route has.
    """
    shown_body = body or optional_body
    failures = _ALWAYS | (_GUARDED if scope else {}) | (_WITH_BODY if shown_body else {}) | dict(errors or {})
    told = {status: {"description": words, "content": _ERROR} for status, words in failures.items()}
    shown = {status: {"description": words, "content": _example(one)} for status, (words, one) in answers.items()}
    extra: dict[str, Any] = {"x-scope": scope.value if scope else NO_SCOPE}
    if scope:
        extra["security"] = [{name: []} for name in SECURITY_SCHEMES]
    if shown_body:
        examples = {name: {"value": one} for name, one in shown_body.items()}
        extra["requestBody"] = {"required": body is not None, "content": {_JSON: {"schema": {}, "examples": examples}}}
    return {
        "summary": summary,
        "status_code": min(answers),
        "responses": told | shown,
        "openapi_extra": extra,
        "dependencies": [Depends(_admit(scope))] if scope else [],
    }


def _example(one: object) -> Mapping[str, Any]:
    return {"text/plain": {"schema": {"type": "string"}}} if isinstance(one, str) else {_JSON: {"example": one}}


def _admit(scope: Scope) -> Callable[[Request], Awaitable[None]]:
    async def admit(request: Request) -> None:
        request.state.caller = await tools(request).guard.admit(request, scope)

    return admit
