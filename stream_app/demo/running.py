"""Setting the demo's stage and clearing it away."""

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.demo import report
from stream_app.demo.examples import Example, read
from stream_app.demo.session import Session, summary
from stream_app.demo.view import Picture
from stream_app.errors import Outage
from stream_app.kafka.embedded import EmbeddedBroker
from stream_app.kafka.producer import Producer
from stream_app.supervisor import Child, Supervisor
from stream_app.worker.audit import audit

#: How long worker and trainer may take to start.
START_S: Final = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line chose."""

    example: Example
    paced: bool
    report: Path
    #: None: a temporary folder, removed at the end
    folder: Path | None
    #: leave the processes running at the end
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who watches."""

    #: draws the live picture
    show: Callable[[Picture], None]
    #: says a sentence
    say: Callable[[str], None]
    #: gets the summary
    tell: Callable[[Mapping[str, Any]], None]


def run(options: Options, audience: Audience) -> None:
    """Run the demo from an empty folder to its summary.

    1. broker, settings, processes; 2. the stream; 3. stop the processes; 4. prove the log; 5. report
    With `keep` the processes are started once more at the end, to be looked at until Ctrl-C.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(options.folder))
        broker = stack.enter_context(EmbeddedBroker())  # 1
        config = folder / "stream_app.toml"
        config.write_text(options.example.settings_text(folder / "state"), encoding="utf-8")
        rooms = Rooms(configuration.load(config, {"kafka.bootstrap_servers": broker.bootstrap_servers}))
        children = _children(config, broker.bootstrap_servers, folder / "processes.log")
        audience.say(f"settings, state and logs are in {folder}")
        with _running(children):
            session = stack.enter_context(_session(rooms, children[0], options))
            session.run(audience.show)  # 2
        # leaving the block has stopped the processes in order: 3
        proof = audit(rooms.stores, rooms.fold(options.example.name), lambda _: None)  # 4
        result = summary(session, proof)
        report.write(options.report, session.picture, result, config.read_text(encoding="utf-8"))  # 5
        audience.tell({**result, "report": str(options.report)})
        if options.keep:
            audience.say(f"running on: try `stream-app status --config {config}`; Ctrl-C ends it")
            with _running(children):
                _until_interrupted()


def _until_interrupted() -> None:
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="stream_app-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _children(config: Path, bootstrap_servers: str, log: Path) -> list[Child]:
    environment = {"STREAM_APP_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers}
    return [Child(name, [name, "--config", str(config)], environment, log=log) for name in ("worker", "trainer")]


@contextmanager
def _running(children: list[Child]) -> Iterator[None]:
    """Keep the processes running in the background, and stop them in order at the end."""
    # the worker is killed on purpose; a line on it would cut through the picture
    logging.getLogger("stream_app.supervisor").setLevel(logging.ERROR)
    supervisor, stop = Supervisor(children), threading.Event()
    keeper = threading.Thread(target=supervisor.run, args=(stop.wait,), name="demo-supervisor", daemon=True)
    supervisor.start()
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()
        supervisor.stop()


@contextmanager
def _session(rooms: Rooms, worker: Child, options: Options) -> Iterator[Session]:
    name = options.example.name
    settings = rooms.settings.model_copy(update={"models": rooms.models})
    _await_model(rooms)
    with rooms.subscriber([name]) as subscriber, Producer(settings.kafka) as deliver:
        yield Session(
            name=name,
            settings=settings,
            stores=rooms.stores,
            subscriber=subscriber,
            worker=worker,
            rows=read(options.example.data, rooms.model(name)),
            deliver=deliver,
            paced=options.paced,
        )


def _await_model(rooms: Rooms) -> None:
    """Wait until the worker has taken its model over: the stream begins with everybody in place."""
    deadline = time.monotonic() + START_S
    while not rooms.stores.registry.models():
        if time.monotonic() > deadline:
            raise Outage(f"the worker did not start within {START_S:g} s; its log is beside the settings")
        time.sleep(0.1)
