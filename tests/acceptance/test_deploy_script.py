"""`scripts/deploy-retrain-feature.sh` applies in the order in which each part needs the one before."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "deploy-retrain-feature.sh"
#: Stands in for a cluster: notes what it was asked, knows nothing yet, and fails where it is told to.
KUBECTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
  get\\ namespace* | *get\\ secret*) exit 1 ;;
  *exec*) echo '{"key": "the-key"}' ;;
  *create\\ secret*) cat >"$CALLS.secret" ;;
esac
case "$*" in *"$FAILS"*) exit 1 ;; esac
"""


def deploy(folder: Path, *arguments: str, fails: str = "nothing") -> subprocess.CompletedProcess[str]:
    (folder / "kubectl").write_text(KUBECTL)
    (folder / "kubectl").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), "FAILS": fails}
    command = [SCRIPT, "--no-build", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_all_of_it_in_order(tmp_path: Path) -> None:
    assert deploy(tmp_path, "--namespace", "ml").returncode == 0
    done = calls(tmp_path)
    applied = [name for call in done for name in re.findall(r"deploy/k8s/([\w-]+)\.yaml", call)]
    assert applied == ["persistent-volumes", "settings", "init-job", "worker", "trainer", "serve"]
    assert all((ROOT / "deploy" / "k8s" / f"{name}.yaml").exists() for name in applied)
    assert {f"{name}.yaml" for name in applied} == {path.name for path in (ROOT / "deploy" / "k8s").iterdir()}
    assert all("--namespace ml " in call for call in done if not call.endswith("namespace ml"))
    waited = [call for call in done if " wait " in call or " rollout " in call]
    assert [re.findall(r"stream-app-\w+", call) for call in waited] == [
        [f"stream-app-{name}"] for name in ("init", "worker", "trainer", "serve")
    ]
    assert (tmp_path / "calls.secret").read_text() == "the-key"
    assert not [call for call in done if "the-key" in call]


@pytest.mark.parametrize(
    ("fails", "words", "last"),
    [
        ("job/stream-app-init", "the init job did not complete; see: kubectl", "wait"),
        ("deployment/stream-app-worker", "the worker is not ready; see: kubectl", "rollout"),
        ("deployment/stream-app-serve", "the server is not ready; see: kubectl", "rollout"),
    ],
)
def test_it_stops_where_something_does_not_come(tmp_path: Path, fails: str, words: str, last: str) -> None:
    done = deploy(tmp_path, fails=fails)
    assert done.returncode == 1
    assert words in done.stderr
    assert f" {last} " in calls(tmp_path)[-1]


def test_a_dry_run_prints_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    done = deploy(tmp_path, "--dry-run")
    assert done.returncode == 0
    assert not (tmp_path / "calls").exists()
    deploy(tmp_path)
    printed = [line.removeprefix("kubectl ").partition(" | ")[0] for line in done.stdout.splitlines()]
    asked = [call for call in calls(tmp_path) if " get " not in f" {call}" and "create secret" not in call]
    assert printed == asked


def test_what_it_does_not_know_is_a_usage_error(tmp_path: Path) -> None:
    done = deploy(tmp_path, "--nonsense")
    assert done.returncode == 2
    assert "unknown argument '--nonsense'" in done.stderr
    assert not (tmp_path / "calls").exists()
