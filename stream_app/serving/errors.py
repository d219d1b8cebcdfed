"""One shape for everything that goes wrong: `{"error": words, "details": [{"loc", "msg", "type"}, …]}`.

The one table from our errors to statuses is here; the rooms below know none of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from stream_app.errors import Conflict, InvalidRecord, Misconfigured, NotFound, Outage, StreamAppError, WrongArgument

#: `{"loc": [where], "msg": words, "type": a word from a closed set}`
Detail: TypeAlias = dict[str, Any]

#: What a client is told to wait before it tries a broker or database that is away again.
RETRY_AFTER_S: Final = 5
#: More flaws of one body are not told.
MOST_DETAILS: Final = 20

_STATUSES: Final[Mapping[type[StreamAppError], int]] = {
    InvalidRecord: 422,
    WrongArgument: 422,
    NotFound: 404,
    Conflict: 409,
    Misconfigured: 400,
    Outage: 503,
}
_MISSING: Final = "missing"


class Problem(Exception):  # noqa: N818 - named for what it is: an answer
    """A request that gets another answer than it asked for."""

    def __init__(
        self, status: int, error: str, details: Sequence[Detail] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """`error` is for people, `details` say where in the request it lies."""
        super().__init__(error)
        self.status = status
        self.error = error
        self.details = list(details)[:MOST_DETAILS]
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        return json_response({"error": self.error, "details": self.details}, self.status, self.headers)


class Invalid(Problem):
    """What the client sent cannot be taken: 422, with what is wrong where."""

    def __init__(self, details: Sequence[Detail]) -> None:
        """The first flaw is the headline."""
        first = details[0]
        where = ".".join(map(str, first["loc"]))
        super().__init__(422, f"{where}: {first['msg']}" if where else str(first["msg"]), details)


def detail(loc: Sequence[str | int], msg: str, type_: str) -> Detail:
    """Return one flaw; `loc` names the way from the body's top to the value, without a leading "body"."""
    return {"loc": list(loc), "msg": msg, "type": type_}


def json_response(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer; keys may be numbers and truth values, spelled as JSON spells them."""
    return raw_json(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), status, headers)


def raw_json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that is JSON already."""
    sent = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, status, media_type="application/json", headers=sent)


def as_problem(error: BaseException) -> Problem:
    """Return the answer to an error, by its nearest class in the table; of an unknown one nothing is told."""
    if isinstance(error, Problem):
        return error
    table: Mapping[type, int] = _STATUSES
    status = next((table[kind] for kind in type(error).__mro__ if kind in table), 500)
    if status == 500:  # noqa: PLR2004 - the status, as the table has it
        return Problem(500, "something went wrong here; the log says what")
    details = [detail([], str(error), f"value_error.{error.reason}")] if isinstance(error, InvalidRecord) else []
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, Outage) else {}
    return Problem(status, str(error), details, headers)


def install(app: FastAPI) -> None:
    """Have the application answer every error in the one shape."""
    app.add_exception_handler(Problem, _answer)
    app.add_exception_handler(StreamAppError, _answer)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(Exception, _answer)


async def _answer(_request: Request, error: Exception) -> Response:
    return as_problem(error).response()


async def _answer_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return Problem(error.status_code, str(error.detail), headers=error.headers).response()


async def _answer_validation(_request: Request, error: Exception) -> Response:
    """Turn FastAPI's words for parameters into ours."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    return Invalid([_of_parameter(flaw) for flaw in error.errors()]).response()


def _of_parameter(flaw: Mapping[str, Any]) -> Detail:
    if flaw["type"] == _MISSING:
        return detail(flaw["loc"][1:], "field required", "value_error.missing")
    return detail(flaw["loc"][1:], str(flaw["msg"]), f"value_error.{flaw['type']}")
