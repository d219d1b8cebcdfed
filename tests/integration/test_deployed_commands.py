"""Each command of the compose file and of the chart, with its environment, becomes ready as a plain process."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml

from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.watching import free_port

pytestmark = pytest.mark.timeout(900)
#: What differs outside a container: where the broker is, where state is kept, and which ports are free.
PORTS: Final = {
    "worker": "STREAM_APP_HTTP__WORKER_PORT",
    "trainer": "STREAM_APP_HTTP__TRAINER_PORT",
    "serve": "STREAM_APP_SERVE__PORT",
}
PLACES: Final = {"STREAM_APP_STORAGE__ROOT": "state", "STREAM_APP_STORAGE__ARTIFACTS": "models"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """One process as a deployment starts it."""

    arguments: list[str]
    environment: Mapping[str, str]


def of_compose() -> dict[str, Deployed]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    return {name: Deployed(s["command"], s["environment"]) for name, s in ours.items()}


def of_chart() -> dict[str, Deployed]:
    pods = [thing["spec"]["template"]["spec"] for thing in chart() if thing["kind"] in {"Deployment", "Job"}]
    containers = [c for pod in pods for c in (*pod.get("initContainers", ()), *pod["containers"])]
    return {
        container["name"]: Deployed(container["args"], {v["name"]: v["value"] for v in container["env"]})
        for container in containers
    }


def chart() -> list[dict[str, Any]]:
    """Return the objects of the chart's rendering."""
    paths = sorted((ROOT / "deploy" / "k8s").glob("*.yaml"))
    return [thing for path in paths for thing in yaml.safe_load_all(path.read_text()) if thing]


@pytest.fixture
def pipeline(tmp_path: Path, embedded_bootstrap: str) -> Pipeline:
    """Return a folder with what the chart's ConfigMap holds."""
    settings = next(thing for thing in chart() if thing["kind"] == "ConfigMap")
    (tmp_path / "stream_app.toml").write_text(settings["data"]["stream_app.toml"])
    (tmp_path / "data").mkdir()
    for name, content in settings["binaryData"].items():
        (tmp_path / "data" / name).write_bytes(base64.b64decode(content))
    return Pipeline(tmp_path, embedded_bootstrap)


def adapted(pipeline: Pipeline, deployed: Deployed) -> dict[str, str]:
    places = {name: str(pipeline.folder / place) for name, place in PLACES.items() if name in deployed.environment}
    root = {"STREAM_APP_STORAGE__ROOT": str(pipeline.folder / "state")}  # the image names it where compose does not
    return {**deployed.environment, **root, **places, "STREAM_APP_KAFKA__BOOTSTRAP_SERVERS": pipeline.bootstrap}


@pytest.mark.parametrize("deployment", [of_compose(), of_chart()], ids=["compose", "chart"])
def test_every_command_becomes_ready(pipeline: Pipeline, deployment: dict[str, Deployed]) -> None:
    """In the order of the deployment: what runs once, worker and trainer, a key, the server."""
    once = [name for name in ("topics", "records") if name in deployment]
    assert deployment.keys() == {*once, *PORTS}
    for name in once:
        Pipeline(pipeline.folder, pipeline.bootstrap, adapted(pipeline, deployment[name])).run(
            *deployment[name].arguments
        )
    ports = {name: free_port() for name in PORTS}
    with running(pipeline, deployment, ports, "worker"), running(pipeline, deployment, ports, "trainer"):
        keeper = Pipeline(pipeline.folder, pipeline.bootstrap, adapted(pipeline, deployment["worker"]))
        keeper.run("keys", "create", "--name", "deploy", "--scopes", "admin")
        with running(pipeline, deployment, ports, "serve"):
            for port in ports.values():
                until_ready(port)


def running(pipeline: Pipeline, deployment: Mapping[str, Deployed], ports: Mapping[str, int], name: str) -> Any:  # noqa: ANN401 - a context
    environment = adapted(pipeline, deployment[name]) | {PORTS[name]: str(ports[name])}
    return pipeline.running(*deployment[name].arguments, **environment)


def until_ready(port: int, deadline: float = 120.0) -> None:
    end = time.monotonic() + deadline
    while not is_ready(port):
        assert time.monotonic() < end, f"port {port} was not ready within {deadline:g} s"
        time.sleep(0.1)


def is_ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx2.TransportError:
        return False


def test_the_server_refuses_to_start_without_a_key(pipeline: Pipeline) -> None:
    deployed = of_chart()["serve"]
    server = Pipeline(pipeline.folder, pipeline.bootstrap, adapted(pipeline, deployed))
    server.run(*deployed.arguments, "--port", "0", code=78)
