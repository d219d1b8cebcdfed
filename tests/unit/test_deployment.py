"""The compose file and the image agree with the program that they run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_app.configuration import build
from stream_app.layers import from_environment
from stream_app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_the_variables_of_a_service_are_settings(service: dict[str, Any]) -> None:
    image = dict(re.findall(r"(STREAM_APP_\w+)=(\S+)", DOCKERFILE))

    settings = build([from_environment({**image, **service["environment"]}, below={})])

    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.storage.root == Path("/var/lib/stream_app")


@pytest.mark.parametrize(("service", "port"), [("worker", "worker_port"), ("trainer", "trainer_port")])
def test_health_is_asked_where_it_is_answered(service: str, port: str) -> None:
    number = getattr(Settings().http, port)

    assert f"127.0.0.1:{number}/livez" in COMPOSE["services"][service]["healthcheck"]["test"][-1]
    assert COMPOSE["services"][service]["ports"] == [f"127.0.0.1:{number}:{number}"]


def test_nothing_is_open_to_the_network() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]

    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_state_outlives_the_containers() -> None:
    mounted = {volume.partition(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]}

    assert COMPOSE["volumes"].keys() <= mounted


def test_data_files_lie_beside_the_settings_as_they_do_outside() -> None:
    """Paths in the settings are relative to them: one file serves both places."""
    for service in OURS.values():
        targets = dict(volume.split(":")[:2] for volume in service["volumes"])

        assert targets["./stream_app.toml"] == "/etc/stream_app/stream_app.toml"
        assert targets["./data"] == "/etc/stream_app/data"


def test_the_image_is_built_from_what_is_there_and_sent() -> None:
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    needed = {name for line in sources for name in line.split()}

    assert needed == set(sent)
    assert all((ROOT / name).exists() for name in needed)


def test_the_broker_is_the_one_that_the_tests_use() -> None:
    assert f'"{COMPOSE["services"]["kafka"]["image"]}"' in (ROOT / "tests" / "conftest.py").read_text()
