"""The limits around the application, without one: what a client may take up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from stream_app.ports import Recorder
from stream_app.serving import limits
from stream_app.serving.errors import Problem, json_response
from stream_app.serving.limits import Bounds, Buckets

SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/x", "headers": []}


async def exchange(
    app: Callable[[Scope, Receive, Send], Awaitable[None]], *messages: Message, timeout_s: float = 30
) -> tuple[int, Any, dict[str, str]]:
    """Run one request with these messages, after which its client is silent; return status, body and labels."""
    waiting, sent, observe = list(messages), [], Recorder()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await Bounds(app, max_body_bytes=10, timeout_s=timeout_s, observe=observe)(dict(SCOPE), receive, send)
    labels = next(labels for fact, _, labels in observe.facts if fact == "http_requests")
    return (sent[0]["status"], orjson.loads(sent[1]["body"]), labels) if sent else (0, None, labels)


async def read_all(_scope: Scope, receive: Receive, send: Send) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message["more_body"]
    await json_response({"fine": True})(_scope, receive, send)


def part(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


async def test_a_body_within_the_limit_passes() -> None:
    assert (await exchange(read_all, part(5), part(5, more=False)))[:2] == (200, {"fine": True})


async def test_bytes_are_counted_as_they_come() -> None:
    status, body, _ = await exchange(read_all, part(5), part(6))
    assert (status, body["error"]) == (413, "the body is longer than 10 bytes")


async def test_a_client_that_goes_silent_is_answered_503() -> None:
    status, body, labels = await exchange(read_all, part(5), timeout_s=0.001)
    assert (status, body.keys()) == (503, {"error", "details"})
    assert labels == {"route": "other", "status": "503"}


async def test_a_client_that_hangs_up_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    status, _, labels = await exchange(read_all, part(5), {"type": "http.disconnect"})
    assert (status, labels["status"], caplog.records) == (0, "499", [])


async def test_an_unknown_failure_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    status, body, _ = await exchange(fail)
    assert (status, "secret" in body["error"]) == (500, False)
    assert [record.message for record in caplog.records] == ["a request failed"]


async def test_so_many_requests_are_under_way_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_AT_ONCE", 0)
    status, body, _ = await exchange(read_all, part(1, more=False))
    assert (status, body.keys()) == (503, {"error", "details"})


async def test_events_may_take_longer_than_an_answer() -> None:
    async def stream(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(100):
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b'"end"'})

    assert (await exchange(stream, timeout_s=0.02))[:2] == (200, "end")


def test_a_bucket_fills_up_with_time_to_its_brim() -> None:
    now = [0.0]
    buckets = Buckets(rate_per_s=2, burst=4, clock=lambda: now[0])

    def holds(count: int) -> None:
        for _ in range(count):
            buckets.take("x")
        with pytest.raises(Problem, match="too many requests") as refused:
            buckets.take("x")
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})

    holds(4)
    now[0] = 1.0
    holds(2)
    now[0] = 100.0
    holds(4)


def test_names_without_end_cost_no_memory_without_end() -> None:
    buckets = Buckets(rate_per_s=1, burst=1, clock=lambda: 0.0)
    for i in range(2 * limits.MOST_BUCKETS):
        buckets.take(str(i))
    assert len(buckets._buckets) == limits.MOST_BUCKETS
