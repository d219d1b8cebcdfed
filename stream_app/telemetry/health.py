"""Health and metrics over HTTP: a few fixed paths, served by a thread of its own.

The event loop of a worker may be busy for a moment; the thread still answers, and says so when the loop is not
well. It listens on loopback unless told otherwise, takes nothing but GET and HEAD, and reads no body.
"""

import errno
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import orjson

from stream_app import __version__
from stream_app.errors import Misconfigured

#: Returns what is wrong in words, None when all is well; called on the server's threads, for each request.
Check: TypeAlias = Callable[[], str | None]

#: Seconds that a client may take for its request.
PATIENCE_S: Final = 5
#: Requests answered at a time; a check that hangs must not gather threads without end.
AT_A_TIME: Final = 8
LONGEST_PATH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What there is to answer with."""

    #: by name: is the process itself alive; if not, it should be started again
    live: Mapping[str, Check]
    #: by name: can it do its work now
    ready: Mapping[str, Check]
    #: the body of /metrics
    exposition: Callable[[], bytes]
    #: the content type of that body
    content_type: str


class HealthServer:
    """Serves /livez, /readyz, /healthz (the same as /readyz), /version and /metrics until it is closed.

    200 when every check is well, else 503, with `{"status": "ok" | "failing", "checks": {name: {"ok", "detail"}}}`.
    """

    def __init__(
        self, served: Served, *, host: str = "127.0.0.1", port: int = 0, setting: str = "http.worker_port"
    ) -> None:
        """Listen at once; port 0 is any free one. Raises Misconfigured when the address cannot be had.

        `setting` is the key of the port.
        """
        try:
            self._server = _Server((host, port), served)
        except OSError as error:
            hint = "; another worker or trainer may still run" if error.errno == errno.EADDRINUSE else ""
            raise Misconfigured(
                f"{setting} = {port}: expected a port that is free on {host}, or 0 for any, but got: {error}{hint}"
            ) from error
        #: the port that it listens on
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        """Return itself: it listens since it was built."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class _Server(ThreadingHTTPServer):
    """Threads that are daemons (a hanging check must not hold the process back), and only a few of them."""

    daemon_threads = True
    # closing does not wait for a client that sends nothing
    block_on_close = False

    def __init__(self, address: tuple[str, int], served: Served) -> None:
        self.routes: Mapping[str, Callable[[], tuple[HTTPStatus, str, bytes]]] = {
            "/livez": lambda: _checked(served.live),
            "/readyz": lambda: _checked(served.ready),
            "/healthz": lambda: _checked(served.ready),
            "/version": lambda: _json(HTTPStatus.OK, {"name": "stream-app", "version": __version__}),
            "/metrics": lambda: (HTTPStatus.OK, served.content_type, served.exposition()),
        }
        self.slots = threading.BoundedSemaphore(AT_A_TIME)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class
        """Start a thread for the request if there is room; hang up otherwise."""
        if not self.slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class
        """Answer, then make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class
        """Say nothing: a client that hangs up is no event of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in JSON as everything else here does; a method that we do not have is 405, not 501."""
        del explain
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.close_connection = True
        self._send(*_json(status, {"error": message or status.phrase}))

    def _answer(self) -> None:
        if len(self.path) > LONGEST_PATH:
            self._send(*_json(HTTPStatus.REQUEST_URI_TOO_LONG, {"error": "the path is too long"}))
            return
        route = self.server.routes.get(self.path.partition("?")[0])
        self._send(*(route() if route else _json(HTTPStatus.NOT_FOUND, {"error": "no such path"})))

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """Name ourselves, not the Python that runs us."""
        return "stream-app"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - as the base class
        """Say nothing: a scrape each few seconds is no event."""


def _checked(checks: Mapping[str, Check]) -> tuple[HTTPStatus, str, bytes]:
    troubles = {name: _trouble(check) for name, check in checks.items()}
    well = not any(troubles.values())
    body = {
        "status": "ok" if well else "failing",
        "checks": {name: {"ok": not trouble, "detail": trouble or ""} for name, trouble in troubles.items()},
    }
    return _json(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, body)


def _trouble(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that fails is an answer, and the others are still asked
        return f"the check failed: {type(error).__name__}"


def _json(status: HTTPStatus, body: Mapping[str, object]) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", orjson.dumps(body)
