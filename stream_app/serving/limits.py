"""How much a client may ask for: bytes of a body, seconds of an answer, requests a second.

Plain ASGI around the whole application, so that nothing inside can forget it.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_app.ports import Observer
from stream_app.serving.errors import RETRY_AFTER_S, Problem, as_problem

#: Names whose buckets are kept; the one that was asked for longest ago goes first, and comes back full.
MOST_BUCKETS: Final = 10_000
#: Requests under way at a time: each may hold a body of the largest size in memory.
MOST_AT_ONCE: Final = 500
#: Status in the metrics of a request whose client did not wait for the answer.
HUNG_UP: Final = 499
_EVENTS: Final = b"text/event-stream"

_log = logging.getLogger(__name__)


class Buckets:
    """A token bucket by name: so many requests a second on average, so many at once; for one event loop."""

    def __init__(self, *, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        #: (tokens, when they were counted)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> None:
        """Take one token; raises Problem 429, with the seconds until there is one again, if none is left."""
        now = self._clock()
        tokens, at = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate_per_s)
        enough = tokens >= 1
        self._buckets[name] = (tokens - 1 if enough else tokens, now)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if not enough:
            wait_s = math.ceil((1 - tokens) / self._rate_per_s)
            raise Problem(429, "too many requests", headers={"Retry-After": str(wait_s)})


class Bounds:
    """Counts the bytes of each body, ends what takes too long, answers what nobody caught, and reports them all."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, timeout_s: float, observe: Observer) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._timeout_s = timeout_s
        self._observe = observe
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        exchange = _Exchange(scope, receive, send, self._max_body_bytes)
        self._under_way += 1
        try:
            await self._serve(scope, exchange)
        finally:
            self._under_way -= 1
        self._report(exchange, time.perf_counter() - began)

    async def _serve(self, scope: Scope, exchange: "_Exchange") -> None:
        if self._under_way > MOST_AT_ONCE:
            await exchange.answer(_busy(f"{MOST_AT_ONCE} requests are under way"))
            return
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                exchange.deadline = deadline
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            await exchange.answer(_busy(f"not answered within {self._timeout_s:g} s"))
        except ClientDisconnect:
            exchange.status = HUNG_UP
        except Exception as error:  # noqa: BLE001 - whatever it is, it gets the one shape
            _log.exception("a request failed", extra={"path": exchange.route})
            await exchange.answer(as_problem(error))

    def _report(self, exchange: "_Exchange", took_s: float) -> None:
        self._observe("http_requests", route=exchange.route, status=str(exchange.status))
        self._observe("http_request_duration", amount=took_s, route=exchange.route)


def _busy(words: str) -> Problem:
    return Problem(503, words, headers={"Retry-After": str(RETRY_AFTER_S)})


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most_bytes: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._most_bytes = most_bytes
        self._bytes = 0
        self.status = 0
        self.deadline: asyncio.Timeout | None = None

    @property
    def route(self) -> str:
        """The path as it is declared: one that a client made up must not become a metric's label."""
        return str(getattr(self._scope.get("route"), "path", "other"))

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most_bytes:
            # the rest stays unread: the connection ends with the answer
            words = f"the body is longer than {self._most_bytes} bytes"
            raise Problem(413, words, headers={"Connection": "close"})
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.deadline is not None and dict(message["headers"]).get(b"content-type", b"").startswith(_EVENTS):
                self.deadline.reschedule(None)  # events come as long as somebody listens
        await self._send(message)

    async def answer(self, problem: Problem) -> None:
        """Answer instead of the application, unless it has begun to."""
        if not self.status:
            await problem.response()(self._scope, self._receive, self.send)
