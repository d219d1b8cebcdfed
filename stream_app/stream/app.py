"""The Faust app: the settings that matter, and a life that ends with an exit code instead of a restart."""

import asyncio
import functools
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast

import aiokafka.errors
import faust
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
)
from faust.app.base import BootStrategy
from faust.auth import Credentials
from mode.supervisors import CrashingSupervisor

from stream_app import exits
from stream_app.errors import Misconfigured, Outage, StreamAppError
from stream_app.kafka import client, topics
from stream_app.kafka.quiet import quieten
from stream_app.leaving import asking
from stream_app.settings import KafkaSettings
from stream_app.stream.agents import RunHandler, Seat, attach
from stream_app.stream.joining import Joining
from stream_app.stream.reaching import Contact, check_topics, patiently
from stream_app.stream.transport import CoalescingConsumer, CoalescingTransport
from stream_app.stream.watchdog import Watchdog

#: What errors of Kafka's client mean to us; what it raises beside these is a bug.
_MEANING: Final[Mapping[type[BaseException], type[StreamAppError]]] = {
    KafkaConnectionError: Outage,
    TopicAuthorizationFailedError: Misconfigured,
    GroupAuthorizationFailedError: Misconfigured,
}
#: Seconds after which the process leaves without a goodbye to Kafka; nothing but lag displays depends on one.
LEAVE_WITHIN_S: Final = 9.0

_log = logging.getLogger(__name__)


#: Settings of Faust that do not depend on ours.
_HABITS: Final[Mapping[str, Any]] = {
    # the process ends and recovers from the log; the default restarts an agent in place, which reads nothing again
    "agent_supervisor": CrashingSupervisor,
    # a rebalance drops what is open, so there is nothing to wait for, and waiting could last for ever
    "stream_wait_empty": False,
    # in events, and small ones: what waits is bounded in bytes. A full queue makes Faust pause for a whole second
    "stream_buffer_maxsize": 4096,
    # partitions are set to the log's positions before the first fetch
    "consumer_auto_offset_reset": "earliest",
    "broker_commit_interval": 1.0,
    "topic_allow_declare": False,
    "topic_disable_leader": True,
    "table_standby_replicas": 0,
    "store": "memory://",
    "web_enabled": False,
    "worker_redirect_stdouts": False,
    "autodiscover": False,
}


class WithoutWebOrProducer(BootStrategy):
    """Faust's web server shows tables to anyone; its producer would have nothing to send."""

    enable_web = False
    enable_kafka_producer = False


class StreamApp(faust.App):
    """A Faust app that knows its handler and why it ends. Made by `build_app`, run by `run_worker`."""

    logger = logging.getLogger("faust")
    BootStrategy = WithoutWebOrProducer

    def __init__(
        self,
        group_id: str,
        *,
        handler: RunHandler,
        seat: Seat,
        watchdog: Watchdog,
        joining: Joining,
        check: Callable[[], object],
        **options: Any,  # noqa: ANN401 - Faust has a hundred of them
    ) -> None:
        """`check` raises what is wrong with the topics; it may block. `options` are Faust's."""
        super().__init__(group_id, **options)
        self.handler = handler
        self.seat = seat
        self.watchdog = watchdog
        #: whether Kafka answers
        self.contact = Contact()
        #: the first error that ended it
        self.failure: BaseException | None = None
        #: what ended it, for people
        self.why = ""
        self.leaving = asyncio.Event()
        #: whether nothing is open any more: nothing that happens from then on matters
        self.drained = False
        # never cancelled: what comes after the loop, such as clients whose broker has gone, may hang as well
        self.deadline = threading.Timer(LEAVE_WITHIN_S, _leave_anyway, [self])
        self.deadline.daemon = True
        self._joining = joining
        self._check = check
        self.on_partitions_revoked.connect(self._give_up)
        self.on_rebalance_complete.connect(self._take_over)

    @property
    def runs(self) -> CoalescingConsumer:
        """The consumer, by its real type."""
        return cast("CoalescingConsumer", self.consumer)

    def fail(self, error: BaseException) -> None:
        """Stop taking runs and leave with the exit code of the error's class; what follows are its echoes."""
        if self.failure is None and not self.drained:
            self.failure = error
            self.why = str(error)
            # the message says it all for errors of ours that have a code; others need their traceback
            _log.error("the worker stops: %s", error, exc_info=error if exit_code(error) == 1 else None)
        self.leave()

    def ask(self, number: signal.Signals) -> None:
        """Stop taking runs, and end, since a signal says so."""
        self.why = self.why or number.name
        self.leave()

    def leave(self) -> None:
        """Stop taking runs, and end."""
        self.leaving.set()
        if self.started:
            self.consumer.stop_flow()
            self.flow_control.suspend()
            self.flow_control.clear()

    def unhealthy(self) -> str | None:
        """Return why the process should be restarted, None when it should not."""
        return self.watchdog.stuck() or self.handler.healthy()

    def is_ready(self) -> bool:
        """Return whether partitions are assigned and set to the log's positions.

        They stay so while Kafka is away: ask `contact` too.
        """
        return bool(self.seat.held) and self.runs.is_placed()

    async def serve(self) -> None:
        """Check the topics, start, and raise what Faust ended of."""
        await asyncio.to_thread(self._check)
        self._joining.begin(time.monotonic())
        await self.start()
        await self.wait_until_stopped()
        if self.crash_reason is not None:
            raise self.crash_reason

    async def watch(self) -> None:
        """Look at topics and partitions now and then; raises Outage for another topic, StreamAppError when stuck.

        A broker that is away is neither: that ends by itself.
        """
        while True:
            await asyncio.sleep(min(2.5, self.watchdog.stuck_after_s / 4))
            if overdue := self._joining.overdue(time.monotonic()):
                _log.warning(overdue)
            if changed := await self._changed():
                raise Outage(changed)
            if self.is_ready():
                await self._look()

    async def _changed(self) -> str | None:
        asked_at = time.time()
        try:
            changed = await self.seat.changed()
        except Outage:
            self.contact.note(answered=False, asked_at=asked_at)
            return None
        self.contact.note(answered=True, asked_at=asked_at)
        return changed

    async def _look(self) -> None:
        positions = self.runs.positions()
        try:
            ends = await asyncio.wait_for(self.runs.highwaters(*positions), self.conf.broker_request_timeout)
        except (aiokafka.errors.KafkaError, TimeoutError):
            return
        self.watchdog.look(positions, ends, time.monotonic())
        if stuck := self.watchdog.stuck():
            raise StreamAppError(f"{stuck}; a restart is known to help")

    async def _give_up(self, *_: object, **__: object) -> None:
        self._joining.begin(time.monotonic())
        if self.seat.held:
            _log.info("partitions revoked", extra={"partitions": _names(self.seat.held)})
        await _guarded(self, self.seat.give_up)

    async def _take_over(self, *_: object, **__: object) -> None:
        self._joining.end()
        await _guarded(self, functools.partial(self.seat.take_over, self.runs))
        if self.failure is None:
            _log.info("partitions assigned", extra={"partitions": _names(self.seat.held)})

    def _create_directories(self) -> None:
        """Make no folders: Faust wants some for tables, of which there are none."""


def build_app(settings: KafkaSettings, *, subscriptions: Sequence[str], handler: RunHandler) -> StreamApp:
    """Return an app that hands the topics' runs to the handler; raises Misconfigured.

    Run it with `run_worker`, in whose loop the handler's methods are called.
    """
    admin = client.admin(settings)
    ask = patiently(settings.request_timeout_s)
    app = StreamApp(
        settings.group_id,
        handler=handler,
        seat=Seat(handler, lambda names: {name: topics.incarnation(admin, name) for name in names}, ask),
        watchdog=Watchdog(settings.stuck_after_s),
        joining=Joining(settings.session_timeout_s),
        check=functools.partial(check_topics, settings, subscriptions),
        **_timing(settings),
        **_connection(settings),
        **_HABITS,
    )
    app.transport = CoalescingTransport(app, app.fail, client.aiokafka_options(settings).fetch_max_wait_ms)
    for topic in subscriptions:
        attach(app, topic, handler, app.fail)
    return app


def run_worker(app: StreamApp, *alongside: Callable[[], Awaitable[None]]) -> int:
    """Run until SIGTERM, SIGINT, SIGHUP or a failure, and return the exit code.

    `alongside` run in the same loop from start to end; one that raises ends the worker as the handler does.
    """
    _tune_interpreter()
    for family in ("faust", "mode", "aiokafka"):
        quieten(family)
    return asyncio.run(_live(app, alongside))


def exit_code(error: BaseException | None) -> int:
    """Return what an orchestrator is told about the error: 0, 70, 75, 78 or 1."""
    if error is None:
        return 0
    meaning = next((ours for theirs, ours in _MEANING.items() if isinstance(error, theirs)), None)
    return exits.exit_code(error if meaning is None else meaning())


async def _live(app: StreamApp, alongside: Sequence[Callable[[], Awaitable[None]]]) -> int:
    """1. check the topics 2. start 3. run until told to leave 4. drain 5. say goodbye to Kafka."""
    for number in asking():
        asyncio.get_running_loop().add_signal_handler(number, app.ask, number)
    tasks = [asyncio.create_task(_guarded(app, part)) for part in (app.serve, app.watch, *alongside)]
    await app.leaving.wait()
    app.deadline.start()
    if app.failure is None and app.started:
        await _guarded(app, app.handler.drain)
    app.drained = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await _say_goodbye(app)
    code = exit_code(app.failure)
    _log.info("worker stopped", extra={"why": app.why, "exit_code": code})
    return code


async def _say_goodbye(app: StreamApp) -> None:
    try:
        await app.stop()
    except Exception as error:  # noqa: BLE001 - everything is durable by now, and the group notices by itself
        _log.warning("left without a goodbye to Kafka: %r", error)


async def _guarded(app: StreamApp, part: Callable[[], Awaitable[None]]) -> None:
    try:
        await part()
    except Exception as error:  # noqa: BLE001 - any of them ends the process, with its cause
        app.fail(error)


def _names(places: Sequence[tuple[str, int]]) -> Sequence[str]:
    return [f"{topic}/{number}" for topic, number in places]


def _leave_anyway(app: StreamApp) -> None:
    if not app.drained:
        _log.error("what was open could not be flushed within %g s; it will be read again", LEAVE_WITHIN_S)
    os._exit(exit_code(app.failure) if app.drained else 1)


def _tune_interpreter() -> None:
    # what is loaded now stays; and windows are large lists of small objects, which the collector would walk
    # again and again for 10-20 % of the time
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _timing(settings: KafkaSettings) -> dict[str, Any]:
    if settings.session_timeout_s > settings.request_timeout_s:
        raise Misconfigured(
            f"kafka.request_timeout_s is {settings.request_timeout_s:g}: expected at least kafka.session_timeout_s, "
            f"{settings.session_timeout_s:g}"
        )
    return {
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 3,
        "broker_request_timeout": settings.request_timeout_s,
        "broker_max_poll_records": settings.fetch_records,
        # Faust only complains about a slow stream; ours ends the process
        "stream_processing_timeout": settings.stuck_after_s,
    }


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    options = client.aiokafka_options(settings)
    return {
        "broker": [f"kafka://{server.strip()}" for server in client.bootstrap_servers(settings).split(",")],
        "broker_credentials": _credentials(options),
        "broker_client_id": options.client_id,
        "consumer_group_instance_id": options.group_instance_id,
        "consumer_metadata_max_age_ms": options.metadata_max_age_ms,
        "consumer_connections_max_idle_ms": options.connections_max_idle_ms,
        "consumer_max_fetch_size": options.max_partition_fetch_bytes,
    }


def _credentials(options: client.AiokafkaOptions) -> Credentials | None:
    if options.sasl_mechanism is not None:
        return faust.SASLCredentials(
            username=options.sasl_username,
            password=options.sasl_password,
            mechanism=options.sasl_mechanism,
            ssl_context=options.ssl_context,
        )
    return faust.SSLCredentials(options.ssl_context) if options.ssl_context is not None else None
