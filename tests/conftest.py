"""What every test may ask for: a broker, names nobody else uses, and waiting without sleeping."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from stream_app.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "apache/kafka:4.1.0"
#: Turns "no broker" from a skip into a failure; the build sets it.
REQUIRE = "STREAM_APP_REQUIRE_KAFKA"


@pytest.fixture(scope="session")
def kafka_bootstrap(without_broker: Callable[[str], NoReturn]) -> Iterator[str]:
    """Yield the address of a real broker: the one named, or one in Docker, or one of scripts/kafka."""
    with contextlib.ExitStack() as stack:
        address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or _in_docker(stack) or _by_script(stack)
        if address is None:
            without_broker("NO KAFKA BROKER: set KAFKA_BOOTSTRAP_SERVERS, run Docker, or install Java 17 and Maven")
        yield address


@pytest.fixture(scope="session")
def without_broker() -> Callable[[str], NoReturn]:
    """Return what ends a test that has no broker: in the build it fails, elsewhere it is skipped."""

    def end(message: str) -> NoReturn:
        pytest.fail(message) if os.environ.get(REQUIRE) == "1" else pytest.skip(message)

    return end


@pytest.fixture
def embedded_bootstrap() -> Iterator[str]:
    """Yield the address of a broker inside this process."""
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Return a maker of names that no other test uses, for topics and groups."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Return `wait_until(predicate, deadline)`: poll until it holds, fail after `deadline` seconds."""

    def wait(predicate: Callable[[], object], deadline: float = 120.0, *, what: str = "the condition") -> None:
        end = time.monotonic() + deadline
        while not predicate():
            assert time.monotonic() < end, f"{what} did not hold within {deadline:g} s"
            time.sleep(0.05)

    return wait


def _in_docker(stack: contextlib.ExitStack) -> str | None:
    """Start a container, None where no Docker runs."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        return None
    # here because most test runs need no container, and importing this takes its time
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    port = _free_port()
    container = DockerContainer(IMAGE).with_bind_ports(9092, port)
    for name, value in _container_settings(port).items():
        container = container.with_env(name, value)
    stack.enter_context(container)
    return f"{container.get_container_host_ip()}:{port}"


def _container_settings(port: int) -> dict[str, str]:
    """Return what a single KRaft node needs; the image takes server properties from its environment."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://localhost:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }


def _by_script(stack: contextlib.ExitStack) -> str | None:
    """Start a broker of our own, so that another test run cannot stop it; None where it cannot be had."""
    command = [sys.executable, str(ROOT / "scripts" / "kafka"), "run"]
    broker = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(broker.terminate)  # runs before the wait that leaving Popen's context means
    assert broker.stdout is not None
    return broker.stdout.readline().strip() or None


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
