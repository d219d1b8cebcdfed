"""Dashboards and alerts say what to do, ask only for what is exported, and lead to a page that says more."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_app.telemetry.metrics import METRICS, Kind

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BOARDS = {path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
PANELS = [(f"{name}: {panel['title']}", panel) for name, board in BOARDS.items() for panel in board["panels"]]
(GROUP,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
RULES = {rule["alert"]: rule for rule in GROUP["rules"]}
WATCHING = (ROOT / "docs" / "watching.md").read_text()
#: Exported by the Prometheus client or by Prometheus itself.
OTHERS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def exported() -> Iterator[str]:
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            yield from (f"{metric.name}_{part}" for part in ("bucket", "sum", "count"))
        else:
            yield metric.name + ("_total" if metric.kind is Kind.COUNTER else "")


def asked_for(expression: str) -> set[str]:
    without_labels = re.sub(r"\{[^}]*\}|(?:by|ignoring|on) \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:stream_app_\w+|model_(?:re\w+|age_\w+)|process_\w+|up)\b", without_labels))


def test_there_are_four_dashboards_with_ids_of_their_own() -> None:
    assert BOARDS.keys() == {"streams", "models", "retraining", "serving"}
    assert len({board["uid"] for board in BOARDS.values()}) == 4
    for board in BOARDS.values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[place for place, _ in PANELS])
def test_a_panel_says_what_it_shows_in_which_unit_and_what_to_do(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 40
    assert panel["datasource"]["uid"] == "${datasource}"
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[place for place, _ in PANELS])
def test_a_panel_asks_for_what_is_exported(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        found = asked_for(target["expr"])
        assert found
        assert found <= {*exported(), *OTHERS}


def test_panels_name_only_alerts_that_there_are() -> None:
    named = {name for _, panel in PANELS for name in re.findall(r"StreamApp\w+", panel["description"])}

    assert named <= RULES.keys()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_alert_says_what_is_wrong_and_what_to_do_first(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "action"}
    assert asked_for(rule["expr"]) <= {*exported(), *OTHERS}


def test_each_alert_has_its_section_and_its_test() -> None:
    tested = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()

    assert re.findall(r"^### (\w+)$", WATCHING, flags=re.MULTILINE) == list(RULES)
    assert set(re.findall(r'alertname="(\w+)"', tested)) == RULES.keys()


def test_grafana_finds_data_source_and_dashboards() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "stream-app.yaml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    assert source["url"] == "http://prometheus:9090"
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose["grafana"]["volumes"]
