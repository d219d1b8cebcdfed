"""The compose file, the image and the chart's rendering agree with the program that they run."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from stream_app.configuration import build
from stream_app.inference import resolve
from stream_app.layers import from_environment, from_file
from stream_app.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
IMAGE = dict(re.findall(r"(STREAM_APP_\w+)=(\S+)", DOCKERFILE))
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LASTING = {name: service for name, service in SERVICES.items() if name != "topics"}
PORTS = {"worker": Settings().http.worker_port, "trainer": Settings().http.trainer_port, "serve": Settings().serve.port}


def rendered() -> Iterator[dict[str, Any]]:
    """Yield the objects of deploy/k8s."""
    for path in sorted((ROOT / "deploy" / "k8s").glob("*.yaml")):
        yield from filter(None, yaml.safe_load_all(path.read_text()))


OBJECTS = list(rendered())
PODS = {
    o["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: o["spec"]["template"]["spec"]
    for o in OBJECTS
    if o["kind"] in {"Deployment", "Job"}
}
CONTAINERS = {c["name"]: c for pod in PODS.values() for c in (*pod.get("initContainers", ()), *pod["containers"])}


def settings_of(variables: Mapping[str, str]) -> Settings:
    return build([from_environment({**IMAGE, **variables}, below={})])


def variables_of(container: Mapping[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_the_compose_file_is_one() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "compose-spec.schema.json").read_text())

    assert [f"{list(error.path)}: {error.message}" for error in Draft7Validator(schema).iter_errors(COMPOSE)] == []


@pytest.mark.parametrize("service", OURS.values(), ids=OURS)
def test_the_variables_of_a_service_are_settings(service: dict[str, Any]) -> None:
    settings = settings_of(service["environment"])

    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.storage.root == Path("/var/lib/stream_app")


@pytest.mark.parametrize("service", PORTS)
def test_health_is_asked_where_it_is_answered(service: str) -> None:
    assert f"127.0.0.1:{PORTS[service]}/readyz" in SERVICES[service]["healthcheck"]["test"][-1]
    assert SERVICES[service]["ports"] == [f"127.0.0.1:{PORTS[service]}:{PORTS[service]}"]


def test_nothing_is_open_to_the_network() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    # Kafka's image writes its settings beside its programs
    assert service.get("read_only", False) is (name != "kafka")


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_says_how_it_is(name: str) -> None:
    assert LASTING[name]["healthcheck"]["test"]


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]

    assert len(images) == 3
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image) for image in images)


def test_no_password_is_written_down() -> None:
    words = ("PASSWORD", "SECRET", "TOKEN", "KEY")
    names = [name for service in SERVICES.values() for name in service.get("environment", {})]

    assert [name for name in names if any(word in name for word in words)] == []
    assert SERVICES["grafana"]["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert COMPOSE["secrets"] == {"prometheus_key": {"file": "./secrets/prometheus_key"}}


def test_state_outlives_the_containers() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service["volumes"]]

    assert COMPOSE["volumes"].keys() <= {volume.partition(":")[0] for volume in volumes}


def test_what_is_mounted_from_the_checkout_is_there() -> None:
    volumes = [volume for service in SERVICES.values() for volume in service["volumes"]]
    sources = {volume.partition(":")[0] for volume in volumes if volume.startswith("./deploy")}

    assert len(sources) == 3
    assert all((ROOT / source).is_dir() for source in sources)


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
    assert f'"{SERVICES["kafka"]["image"]}"' in (ROOT / "tests" / "conftest.py").read_text()


def test_prometheus_asks_the_services_of_the_compose_file() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}

    assert targets == {f"stream-app-{name}": [f"{name}:{port}"] for name, port in PORTS.items()}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_the_variables_of_a_pod_are_settings(container: dict[str, Any]) -> None:
    settings = settings_of(variables_of(container))

    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.storage.root == Path("/var/lib/stream_app")
    assert settings.storage.artifacts == "/models"


@pytest.mark.parametrize("name", PORTS)
def test_probes_ask_where_it_is_answered(name: str) -> None:
    container = CONTAINERS[name]
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}

    assert container["args"] == [name]
    assert container["ports"] == [{"name": "http", "containerPort": PORTS[name]}]
    assert {kind: probe["path"] for kind, probe in asked.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_is_nobody_special(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert "--uid 10001" in DOCKERFILE


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a_container_of_a_pod_can_do_no_more_than_it_must(container: dict[str, Any]) -> None:
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]


def test_volumes_and_limits_are_those_of_the_document() -> None:
    sizes = [o["spec"]["resources"]["requests"]["storage"] for o in OBJECTS if o["kind"] == "PersistentVolumeClaim"]

    assert sizes == ["5Gi", "2Gi", "1Gi"]
    assert CONTAINERS["trainer"]["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert {o["spec"]["type"] for o in OBJECTS if o["kind"] == "Service"} == {"ClusterIP"}


def test_the_server_writes_no_models() -> None:
    mounts = {m["name"]: m.get("readOnly", False) for m in CONTAINERS["serve"]["volumeMounts"]}

    assert mounts == {"settings": True, "data": False, "models": True, "shared-models": True, "tmp": False}


def test_the_settings_of_the_chart_are_settings_with_their_data(tmp_path: Path) -> None:
    maps = [o for o in OBJECTS if o["kind"] == "ConfigMap"]
    paths = {i["key"]: i["path"] for v in PODS["worker"]["volumes"] for i in v.get("configMap", {}).get("items", ())}
    (tmp_path / "stream_app.toml").write_text(*{o["data"]["stream_app.toml"] for o in maps})
    for name, content in maps[0]["binaryData"].items():
        (tmp_path / paths[name]).parent.mkdir(exist_ok=True)
        (tmp_path / paths[name]).write_bytes(base64.b64decode(content))

    settings = build([from_file(tmp_path / "stream_app.toml")])

    assert settings.models.keys() == {"liver"}
    assert resolve(settings.models["liver"]).classes == (2, 1)
    assert CONTAINERS["records"]["args"] == ["produce", "--event-ids", "data/liver.csv.gz", "--model", "liver"]
