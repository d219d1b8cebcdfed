"""The chart renders to what is committed, and to what Kubernetes takes; whoever changes one of them changes both."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.integration.pipeline import ROOT

HELM: Final = os.environ.get("HELM") or shutil.which("helm")
CHART: Final = ROOT / "deploy" / "helm" / "stream-app"
#: Everything that is off by default.
ALL: Final = (
    "networkPolicy.enabled=true",
    "monitoring.serviceMonitor=true",
    "monitoring.prometheusRule=true",
    "monitoring.dashboards=true",
)
with_helm = pytest.mark.skipif(HELM is None, reason="NO HELM: go install helm.sh/helm/v3/cmd/helm@v3.19.0, or set HELM")


def rendered(*values: str) -> list[dict[str, Any]]:
    assert HELM is not None
    settings = [part for value in values for part in ("--set", value)]
    command = [HELM, "template", "stream-app", str(CHART), "--kube-version", "1.33.0", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


def committed() -> list[dict[str, Any]]:
    paths = sorted((ROOT / "deploy" / "k8s").glob("*.yaml"))
    return [thing for path in paths for thing in yaml.safe_load_all(path.read_text()) if thing]


@with_helm
def test_the_rendering_is_the_committed_one(tmp_path: Path) -> None:
    environment = {**os.environ, "HELM": str(HELM)}
    subprocess.run([ROOT / "scripts" / "render-chart", tmp_path], check=True, env=environment)
    ours = {path.name: path.read_text() for path in (ROOT / "deploy" / "k8s").glob("*.yaml")}
    assert {path.name: path.read_text() for path in tmp_path.glob("*.yaml")} == ours


@with_helm
def test_alerts_and_dashboards_reach_the_cluster_word_for_word() -> None:
    things = {(thing["kind"], thing["metadata"]["name"]): thing for thing in rendered(*ALL)}
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    boards = {
        f"stream-app-{p.name}": p.read_text() for p in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    }
    assert things["PrometheusRule", "stream-app"]["spec"] == rules
    shown = things["ConfigMap", "stream-app-dashboards"]["data"]
    assert {name: text + "\n" for name, text in shown.items()} == boards


@with_helm
@pytest.mark.parametrize(
    "wrong", ["worker.replicas=-1", "volumes.data.size=5", "nonsense=1", "kafka.bootstrapServers="]
)
def test_values_that_cannot_be_are_refused(wrong: str) -> None:
    with pytest.raises(AssertionError, match="values don't meet the specifications"):
        rendered(wrong)


@pytest.mark.parametrize("version", ["1.25", "1.33"])
def test_kubernetes_takes_it(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for thing in committed() if HELM is None else rendered(*ALL):
        if not thing["apiVersion"].startswith("monitoring.coreos.com"):  # Prometheus's operator brings those
            validate(thing, version, strict=True)
