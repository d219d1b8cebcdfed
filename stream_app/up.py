"""`up`: everything on one machine, supervised, over the embedded broker unless one is named."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from stream_app.background import alone
from stream_app.kafka.embedded import EmbeddedBroker
from stream_app.leaving import stop_event
from stream_app.settings import KafkaSettings, Settings
from stream_app.supervisor import Child, Supervisor
from stream_app.telemetry import logs

_ADDRESS: Final = "STREAM_APP_KAFKA__BOOTSTRAP_SERVERS"
_INCARNATION: Final = "STREAM_APP_KAFKA__INCARNATION"
_SESSION_TIMEOUT: Final = "STREAM_APP_KAFKA__SESSION_TIMEOUT_S"
#: What the embedded broker keeps is soon pushed out: a worker that died must be replaced before that.
_SHORT_SESSION_S: Final = 6


def run_up(settings: Settings, arguments: list[str], address: Path, say: Callable[[str], None]) -> int:
    """Run worker, trainer and server until SIGTERM, SIGINT or SIGHUP; return the exit code.

    `arguments` hand the settings on to them, e.g. ["--config", "stream_app.toml"]; the file `address` holds the
    embedded broker's while there is one.
    """
    logs.configure(settings.log)
    stop = stop_event()
    with ExitStack() as stack:
        stack.enter_context(alone(settings.storage.root))
        environment = {}
        if settings.kafka.bootstrap_servers is None:
            environment = stack.enter_context(_embedded(settings.kafka, address, say))
        children = [Child(name, [name, *arguments], environment) for name in ("worker", "trainer", "serve")]
        supervisor = Supervisor(children)
        supervisor.start()
        try:
            code = supervisor.run(stop.wait)
        finally:
            supervisor.stop()
        if code and environment:
            say("the embedded broker ends too, and with it its topics: what was not learned and the dead letters")
        return code


@contextmanager
def _embedded(kafka: KafkaSettings, address: Path, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    with EmbeddedBroker() as broker:
        address.write_text(broker.bootstrap_servers, encoding="utf-8")
        say(
            f"embedded broker at {broker.bootstrap_servers}: in memory only, keeps about 5 MB a partition, its topics "
            "appear on first use; set kafka.bootstrap_servers for a real one"
        )
        try:
            # a fresh broker has fresh topics: following them is what "start again" means here
            yield {_ADDRESS: broker.bootstrap_servers, _INCARNATION: "follow", **_session(kafka)}
        finally:
            address.unlink(missing_ok=True)


def _session(kafka: KafkaSettings) -> dict[str, str]:
    return {} if "session_timeout_s" in kafka.model_fields_set else {_SESSION_TIMEOUT: str(_SHORT_SESSION_S)}
