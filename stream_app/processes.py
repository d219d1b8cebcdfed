"""The long-running processes: what each starts, watches and ends."""

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Final, Literal, TypeAlias

import pyarrow as pa
from threadpoolctl import threadpool_limits

from stream_app import __version__
from stream_app.bootstrap import Rooms
from stream_app.checking import checked
from stream_app.errors import Misconfigured
from stream_app.kafka.producer import Producer
from stream_app.kafka.relay import Relay
from stream_app.leaving import stop_event
from stream_app.ports import Observer
from stream_app.serving.app import build_api
from stream_app.serving.doors import any_valid
from stream_app.serving.health import Contact, Health
from stream_app.serving.server import address, bind, is_loopback, serve
from stream_app.serving.tools import Tools as ServingTools
from stream_app.serving_rooms import courier, open_spool, serving_tools
from stream_app.settings import Settings
from stream_app.stream.app import StreamApp, build_app
from stream_app.stream.app import run_worker as run_app
from stream_app.subscriber import ModelSubscriber
from stream_app.telemetry import logs
from stream_app.telemetry.health import Check, HealthServer, Served
from stream_app.telemetry.metrics import CONTENT_TYPE, PrometheusObserver
from stream_app.trainer.halts import HaltWatch
from stream_app.worker.handler import TICK_S
from stream_app.worker.keeping import KEEP_EVERY_S
from stream_app.worker.tidying import TIDY_EVERY_S

#: Seconds in which the broker has to acknowledge what a server sends.
_DELIVERY_S: Final = 5.0
#: Seconds that predictions get to leave a server that ends; what stays is on disk.
_LAST_MOMENT_S: Final = 2.0
#: Seconds between two reports of the lag.
LAG_EVERY_S: Final = 5.0

_log = logging.getLogger(__name__)

Checks: TypeAlias = Mapping[str, Check]


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or a failure; return the exit code."""
    logs.configure(settings.log)
    # Arrow's own pool keeps what it once had: over a million rows it grew by a fifth, the system's by a twentieth
    pa.set_memory_pool(pa.system_memory_pool())
    # a batch champion predicts each window beside the learning: one thread, or boosted trees fight for the cores
    threadpool_limits(limits=1)
    observe = PrometheusObserver()
    observe("build_info", version=__version__)
    settings = checked(settings)
    observe.expect(settings.models)
    rooms = Rooms(settings, observe=_Herald(observe))
    with ExitStack() as stack:
        deliver = stack.enter_context(Producer(settings.kafka))
        handler = rooms.handler(deliver)
        app = build_app(settings.kafka, subscriptions=settings.kafka.read_topics, handler=handler)
        live: Checks = {"worker": app.unhealthy}
        # not among `live`: starting again does not bring a broker back
        ready: Checks = {
            "assignment": lambda: None if app.is_ready() else "no partition is assigned and in place yet",
            "kafka": app.contact.lost,
        }
        stack.enter_context(_health(settings, "worker_port", observe, live=live, ready=ready))
        relaying = partial(_relay, rooms.relay())
        lag = _every(LAG_EVERY_S, partial(_tell_lag, app, settings.kafka.group_id, observe))
        _log.info("worker started", extra=_about(settings))
        chores = (
            _every(TICK_S, handler.tick),
            _every(KEEP_EVERY_S, handler.keep),
            _every(TIDY_EVERY_S, handler.tidy),
        )
        return run_app(app, *chores, relaying, lag)


async def _tell_lag(app: StreamApp, group: str, observe: PrometheusObserver) -> None:
    for (topic, number), behind in app.watchdog.lag.items():
        observe("consumer_lag", amount=behind, topic=topic, partition=str(number), group=group)


def run_trainer(settings: Settings) -> int:
    """Run a trainer until SIGTERM; return the exit code."""
    logs.configure(settings.log)
    observe = PrometheusObserver()
    observe("build_info", version=__version__)
    settings = checked(settings)
    observe.expect(settings.models)
    rooms = Rooms(settings, observe=observe)
    service, sweeper = rooms.trainer(), rooms.sweeper()
    stop = stop_event()
    # beside the retrains, which may take hours; nothing waits for it at the end: it only deletes, file by file
    threading.Thread(target=sweeper.run, args=(stop,), name="sweeper", daemon=True).start()
    halts = HaltWatch(rooms.stores.partitions, observe)
    threading.Thread(target=halts.run, args=(stop,), name="halts", daemon=True).start()
    with _health(settings, "trainer_port", observe, live={}, ready={}):
        _log.info("trainer started", extra=_about(settings))
        service.run(stop)
    _log.info("trainer stopped", extra={"why": "asked by a signal", "exit_code": 0})
    return 0


def run_serve(settings: Settings) -> int:
    """Answer over HTTP until SIGTERM; return the exit code."""
    logs.configure(settings.log)
    # as in the worker: boosted trees on several threads would fight for the cores
    threadpool_limits(limits=1)
    observe = PrometheusObserver()
    observe("build_info", version=__version__)
    settings = checked(settings)
    observe.expect(settings.models)
    contact = Contact(observe, clock=time.time)
    rooms = Rooms(settings, observe=contact)
    needs_key = _needs_key(rooms)
    with ExitStack() as stack:
        listening = stack.enter_context(bind(settings.serve.host, settings.serve.port))
        tools = _serving(rooms, stack, contact, observe)
        about = {**_about(settings), "url": address(listening), "needs_key": needs_key}
        # what is there by now stays: never to be looked through again spares pauses, and seconds at the end
        gc.freeze()
        _log.info("server started", extra=about)
        serve(build_api(tools, settings.serve), listening, on_end=tools.health.drain)
    _log.info("server stopped", extra={"why": "asked by a signal", "exit_code": 0})
    return 0


def _serving(rooms: Rooms, stack: ExitStack, contact: Contact, observe: PrometheusObserver) -> ServingTools:
    """Start the parts of a server; at the end of the stack they are closed, the last first."""
    kafka = rooms.settings.kafka
    spool = stack.enter_context(closing(open_spool(rooms)))
    carrier = courier(rooms, spool, stack.enter_context(Producer(kafka, timeout_s=_DELIVERY_S)))
    stack.callback(carrier.close, _LAST_MOMENT_S)
    carrier.start()
    deliver = stack.enter_context(Producer(kafka, timeout_s=_DELIVERY_S))
    subscriber = stack.enter_context(rooms.subscriber(list(rooms.models)))
    health = Health(exposition=observe.exposition, content_type=CONTENT_TYPE)
    tools = serving_tools(rooms, subscriber, carrier, deliver=deliver, health=health)
    health.live = {"subscriber": partial(_failure, subscriber)}
    health.needed = {"models": tools.predictor.silent}
    health.wanted = {"kafka": contact.lost, "predictions": carrier.unwell}
    # beside the first requests: a data file may be long, and a verified version may come before it is read
    threading.Thread(target=tools.predictor.find_baselines, args=(tools.models,), name="baselines", daemon=True).start()
    # what it loaded goes on predicting while requests drain; its thread may wait for a broker that is away
    health.on_drain = threading.Thread(target=subscriber.close, name="subscriber-end", daemon=True).start
    return tools


def _failure(subscriber: ModelSubscriber) -> str | None:
    """Return what ended the subscriber's thread, None while it runs."""
    try:
        subscriber.wait_ready(0)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told, and a new start mends it
        return f"it follows models no more: {type(error).__name__}"
    return None


def _needs_key(rooms: Rooms) -> bool:
    """Return whether requests need a key; raises Misconfigured where others could come in without one."""
    settings = rooms.settings.serve
    if any_valid(rooms.api_keys, rooms.clock()):
        return True
    if not is_loopback(settings.host) and not settings.insecure:
        raise Misconfigured(
            f"serve.host = {settings.host!r}: beyond loopback requests need keys and there is none; make one with "
            "`stream-app keys create`, or set serve.insecure to let everybody do everything"
        )
    _log.warning("there are no API keys: whoever can reach this server may do everything")
    return False


def _about(settings: Settings) -> dict[str, object]:
    broker = settings.kafka.bootstrap_servers
    return {"version": __version__, "models": sorted(settings.models), "broker": broker, "pid": os.getpid()}


class _Herald:
    """Hands facts on, and logs that a model's first records arrived: for that operators wait after a start."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._heard: set[str] = set()

    def __call__(self, fact: str, /, *, amount: float = 1.0, **labels: str) -> None:
        """Hear a fact."""
        if fact == "events_consumed" and labels["model"] not in self._heard:
            self._heard.add(labels["model"])
            _log.info("first records taken in", extra={"records": int(amount), **labels})
        self._observe(fact, amount=amount, **labels)


def _every(pause_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(pause_s)
            await work()

    return repeat


async def _relay(relay: Relay) -> None:
    """Run the relay in a thread; what ends it unexpectedly ends the worker, as any failure does."""
    stop = threading.Event()
    try:
        await asyncio.to_thread(relay.run, stop)
    finally:
        stop.set()


@contextmanager
def _health(
    settings: Settings,
    key: Literal["worker_port", "trainer_port"],
    observe: PrometheusObserver,
    *,
    live: Checks,
    ready: Checks,
) -> Iterator[None]:
    port: int | None = getattr(settings.http, key)
    if port is None:
        yield
        return
    served = Served(live=live, ready=ready, exposition=observe.exposition, content_type=CONTENT_TYPE)
    with HealthServer(served, host=settings.http.host, port=port, setting=f"http.{key}"):
        yield
