"""A real Prometheus that watches a running `stream-app up`, and what the dashboards and alerts ask of it."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import yaml

from tests.integration.pipeline import ROOT

DEPLOY: Final = ROOT / "deploy"
PROMETHEUS: Final = shutil.which("prometheus")
PROMTOOL: Final = shutil.which("promtool")
DASHBOARDS: Final = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
#: What Grafana puts in place of its variables; `up` is watched each second.
VARIABLES: Final = {"$__rate_interval": "8s", "$model": ".*"}

Series = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    place: str
    expression: str


def panels(path: Path) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def panel_queries() -> list[Query]:
    """Return the queries of all panels as Grafana would send them."""
    return [
        Query(f"{path.stem}: {panel['title']} {target['refId']}", _filled(target["expr"]))
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel["targets"]
    ]


def _filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def alert_rules() -> list[Mapping[str, Any]]:
    """Return the alerts."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx2.TransportError:
            return False

    def ask(self, expression: str) -> Series:
        """Return the series that the expression gives now."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        series: Series = answer["data"]["result"]
        return series

    def number(self, expression: str) -> float:
        """Return the only value of the expression; NaN when there is none yet."""
        values = [float(series["value"][1]) for series in self.ask(expression)]
        return values[0] if len(values) == 1 else float("nan")

    def troubled_rules(self) -> list[str]:
        """Return the alerts that were not evaluated well, with the error."""
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return [f"{r['name']}: {r.get('lastError')}" for g in groups for r in g["rules"] if r["health"] != "ok"]


@contextmanager
def watching(folder: Path, ports: Mapping[str, int]) -> Iterator[Prometheus]:
    """Run Prometheus with our own configuration, but for the addresses (port by job) and a look each second."""
    assert PROMETHEUS is not None
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for job, port in ports.items():
        text, found = re.subn(rf"(job_name: {job}\n(?:.*\n)*?.*targets: )\[.*\]", rf"\1['127.0.0.1:{port}']", text)
        assert found == 1, job
    text = re.sub(r"(_interval:) 10s", r"\1 1s", text)
    text = re.sub(r"\n    # a key.*\n    authorization:\n.*", "", text)  # `up` on loopback asks for no key
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
    port = free_port()
    command = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "prometheus.log").open("wb"))
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(process.terminate)
        prometheus = Prometheus(stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{port}")))
        deadline = time.monotonic() + 30
        while not prometheus.is_ready():
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, "Prometheus did not become ready within 30 s"
            time.sleep(0.1)
        yield prometheus
