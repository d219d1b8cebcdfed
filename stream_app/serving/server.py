"""The server process's loop: uvicorn, and how it ends."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from stream_app.errors import Misconfigured
from stream_app.leaving import asking

#: Requests under way get so long after SIGTERM.
DRAIN_S: Final = 5
_BACKLOG: Final = 2_048


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises Misconfigured when the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Misconfigured(
            f"serve.host = {host!r}, serve.port = {port}: expected an address of ours with a port that is free, or 0 "
            f"for any, but got: {error}"
        ) from error


def address(listening: socket.socket) -> str:
    """Return the URL at which a listening socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str) -> frozenset[str] | None:
    """Return the names under which a server on loopback may be called, None for one that others can reach."""
    return frozenset({"localhost", "127.0.0.1", "::1", host}) if is_loopback(host) else None


def serve(app: Any, listening: socket.socket, *, on_end: Callable[[], None]) -> None:  # noqa: ANN401 - any ASGI application
    """Answer requests until SIGTERM, SIGINT or SIGHUP; `on_end` is called when one comes, before the draining."""
    config = uvicorn.Config(
        app,
        log_config=None,  # ours is in place
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_S,
    )
    asyncio.run(_run(_Server(config), listening, on_end))


async def _run(server: uvicorn.Server, listening: socket.socket, on_end: Callable[[], None]) -> None:
    def end() -> None:
        on_end()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in asking():
        loop.add_signal_handler(number, end)
    await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn raises them again at its end, and a clean end would look like a crash."""
        yield
