"""Health answers over HTTP: what is well, what is not, and nothing else."""

import http.client
import socket
from collections.abc import Iterator, Mapping

import orjson
import pytest

from stream_app import __version__
from stream_app.errors import Misconfigured
from stream_app.telemetry.health import AT_A_TIME, Check, HealthServer, Served

TROUBLES: dict[str, str | None] = {}


def served(live: Mapping[str, Check], ready: Mapping[str, Check]) -> Served:
    return Served(live=live, ready=ready, exposition=lambda: b"up 1\n", content_type="text/plain; version=1.0.0")


@pytest.fixture
def server() -> Iterator[HealthServer]:
    TROUBLES.clear()
    checks: dict[str, Check] = {"broker": lambda: TROUBLES.get("broker"), "model": lambda: None}
    with HealthServer(served({"loop": lambda: TROUBLES.get("loop")}, checks)) as running:
        yield running


def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_well_is_200_with_every_check_named(server: HealthServer) -> None:
    status, headers, body = ask(server, "/readyz")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert orjson.loads(body) == {
        "status": "ok",
        "checks": {"broker": {"ok": True, "detail": ""}, "model": {"ok": True, "detail": ""}},
    }


@pytest.mark.parametrize("path", ["/readyz", "/healthz"])
def test_not_ready_is_503_with_the_reason_and_still_alive(server: HealthServer, path: str) -> None:
    TROUBLES["broker"] = "no broker answers"
    status, _, body = ask(server, path)
    assert status == 503
    assert orjson.loads(body)["status"] == "failing"
    assert orjson.loads(body)["checks"]["broker"] == {"ok": False, "detail": "no broker answers"}
    assert ask(server, "/livez")[0] == 200


def test_not_alive_is_503(server: HealthServer) -> None:
    TROUBLES["loop"] = "no progress on ground-truth[0] for 120 s"
    assert ask(server, "/livez")[0] == 503


def test_a_check_that_raises_is_failing_and_tells_no_secret() -> None:
    def broken() -> str | None:
        raise RuntimeError("password=hunter2")

    with HealthServer(served({}, {"broken": broken})) as server:
        status, _, body = ask(server, "/readyz")
    assert status == 503
    assert b"RuntimeError" in body
    assert b"hunter2" not in body


def test_metrics_and_version(server: HealthServer) -> None:
    assert ask(server, "/metrics")[::2] == (200, b"up 1\n")
    assert orjson.loads(ask(server, "/version")[2])["version"] == __version__


def test_head_has_the_headers_and_no_body(server: HealthServer) -> None:
    status, headers, body = ask(server, "/metrics", "HEAD")
    assert (status, headers["content-length"], body) == (200, "5", b"")


@pytest.mark.parametrize("path", ["/", "/table/", "/metrics/..", "/livez/x"])
def test_no_other_path(server: HealthServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_no_other_method(server: HealthServer, method: str) -> None:
    status, headers, _ = ask(server, "/livez", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_a_long_path_is_refused(server: HealthServer) -> None:
    assert ask(server, "/" + "x" * 5_000)[0] == 414


def test_a_long_request_line_is_refused_before_it_is_read_whole(server: HealthServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET /" + b"x" * 70_000)
        assert connection.recv(1000).split(b"\r\n")[0].split()[1] == b"414"


def test_clients_that_say_nothing_take_a_bounded_number_of_threads(server: HealthServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(AT_A_TIME)]
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one_too_many:
            assert one_too_many.recv(1) == b""
    finally:
        for connection in silent:
            connection.close()


def test_it_listens_on_loopback_and_lets_the_port_go(server: HealthServer) -> None:
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_a_taken_port_is_said(server: HealthServer) -> None:
    with pytest.raises(Misconfigured, match=rf"http\.worker_port = {server.port}: .* 0 for any.* may still run"):
        HealthServer(served({}, {}), port=server.port)
