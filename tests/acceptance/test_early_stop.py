"""SIGTERM during the seconds that a service takes to start is no crash: it leaves with 0, and nothing is half done."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.kafka.embedded import EmbeddedBroker
from tests.integration.pipeline import PATIENCE_S, Pipeline, settings_text

LEAVES_WITHIN_S = 10.0


def _catches_sigterm(folder: Path, process: int) -> bool:
    """Return whether the process has a handler for SIGTERM: Python itself was starting until then."""
    del folder
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> 14 & 1)


def _has_loaded(library: str) -> Callable[[Path, int], bool]:
    return lambda _, process: library in Path(f"/proc/{process}/maps").read_text()


def _has_made(name: str) -> Callable[[Path, int], bool]:
    return lambda folder, _: any((folder / "state").glob(name))


#: Moments of a start, in their order; each is waited for, then SIGTERM comes.
MOMENTS = [
    pytest.param(_catches_sigterm, id="first of all"),
    pytest.param(_has_loaded("libarrow"), id="importing"),
    pytest.param(_has_loaded("librdkafka"), id="importing more"),
    pytest.param(_has_made("*.db*"), id="opening the database"),
    pytest.param(_has_made("keys/*"), id="making keys"),
]


@pytest.mark.parametrize("command", ["worker", "trainer"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_service_that_is_stopped_while_it_starts_leaves_with_0(
    tmp_path: Path, command: str, moment: Callable[[Path, int], bool], wait_until: Callable[..., None]
) -> None:
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    with EmbeddedBroker() as broker, Pipeline(tmp_path, broker.bootstrap_servers).running(command) as service:
        wait_until(lambda: moment(tmp_path, service.process.pid))
        service.process.terminate()
        assert service.process.wait(LEAVES_WITHIN_S) == 0
        assert "Traceback" not in service.log.read_text()


def test_a_worker_whose_broker_does_not_answer_leaves_with_0(tmp_path: Path) -> None:
    """The main thread is inside librdkafka then, where no handler of Python's can run."""
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(PATIENCE_S)
        with Pipeline(tmp_path, f"127.0.0.1:{mute.getsockname()[1]}").running("worker") as worker:
            connection, _ = mute.accept()
            with connection:
                worker.process.terminate()
                assert worker.process.wait(LEAVES_WITHIN_S) == 0
