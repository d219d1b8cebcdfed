"""Retrains in real processes: how they end, whatever happens to them, and that the champion stays unless they win."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_app.errors import Corrupt, Fenced, Misconfigured, NotFound
from stream_app.messages import RETRAIN_FAILED, RETRAIN_FINISHED, RETRAIN_REJECTED, RETRAIN_STARTED
from stream_app.trainer.order import Result
from stream_app.trainer.runner import Failed, Stopped
from stream_app.trainer.smoke import load_in_fresh_process
from stream_app.values import JobStatus, VersionStatus
from tests.contract import retraining_house as openings
from tests.contract.retraining_house import (
    DUMMY,
    TREE,
    House,
    crossed,
    is_alive,
    learn,
    learn_records,
    small_settings,
)
from tests.contract.working import settings_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of retrains import the openings of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
async def house(tmp_path: Path) -> House:
    """Return a model that has learned 600 records and serves its online learner."""
    settings = small_settings(tmp_path)
    await learn(settings, 600)
    return House(settings)


def with_retrain(house: House, **retrain: Any) -> House:  # noqa: ANN401 - any key of the section
    """Return the same storage with other settings of retrains."""
    return House(small_settings(house.settings.storage.root, **retrain))


def events(house: House) -> list[str]:
    return [m.type for m in house.rooms.stores.outbox.unsent() if ".retrain." in m.type]


async def test_a_retrain_ends_in_a_promotion(house: House) -> None:
    house = with_retrain(house, memory_mb=600)
    job = house.work(house.service())
    assert (job.status, job.trigger, job.attempts, job.version) == (JobStatus.SUCCEEDED, "volume", 1, 2), job.reason
    version = house.rooms.stores.registry.version("m", 2)
    assert (version.status, version.parent, version.trained_through) == (VersionStatus.GATED, 1, job.through_seq)
    assert (version.row_count, version.rows_digest) == house.rooms.stores.log.rows_digest("m", through=job.through_seq)
    assert version.metrics["training_rows"] == 480
    assert version.metrics["accuracy"] > job.verdict["scores"]["online"]["accuracy"]
    assert house.champion() == 1
    await learn(house.settings, 1, start=600)
    assert house.champion() == 2
    assert events(house) == [RETRAIN_STARTED, RETRAIN_FINISHED]
    facts = {(name, *sorted(labels.items())) for name, _, labels in house.heard.facts}
    assert ("model_retraining_triggered", ("model", "m"), ("trigger_type", "volume")) in facts
    assert ("retrain_duration", ("result", "succeeded"), ("trigger", "volume")) in facts
    assert ("model_retraining_success", ("model", "m")) in facts


def test_a_candidate_that_is_not_better_is_registered_as_rejected_without_bytes(house: House) -> None:
    strange = {"name": "neighbors.KNeighborsClassifier", "params": {"n_neighbors": 5_000}}
    house = with_retrain(house, candidates=[DUMMY, strange])
    job = house.work(house.service())
    assert (job.status, job.version) == (JobStatus.REJECTED, None)
    assert "DummyClassifier does not beat online" in job.reason
    versions = house.rooms.stores.registry.versions("m")
    assert [(v.number, v.algorithm, v.status) for v in versions[:-1]] == [
        (2, "sklearn:DummyClassifier", VersionStatus.REJECTED)
    ]
    assert versions[0].artifact is None
    assert house.rooms.stores.control.waiting("m") == []
    assert events(house) == [RETRAIN_STARTED, RETRAIN_REJECTED]
    said = house.runner().log_of(job.id).read_text()
    assert "cannot be fitted: KNeighborsClassifier: Expected n_neighbors" in said


def test_rows_that_cannot_be_trained_on_are_refused_with_the_reason(house: House) -> None:
    result = with_retrain(house, min_rows=5_000).retrain_here()
    assert result == Result(status=JobStatus.REJECTED, reason="600 rows can be learned from, at least 5,000 are needed")


def test_the_newest_rows_alone_can_be_asked_for(house: House) -> None:
    result = with_retrain(house, window_rows=200, candidates=[DUMMY]).retrain_here()
    assert (result.verdict["training_rows"], result.verdict["holdout_rows"]) == (160, 40)


def test_candidates_that_can_all_not_be_fitted_are_a_mistake_in_the_settings(house: House) -> None:
    strange = {"name": "neighbors.KNeighborsClassifier", "params": {"n_neighbors": 5_000}}
    with pytest.raises(
        Misconfigured, match=r"retrain.candidates: none can be fitted .* KNeighborsClassifier: Expected"
    ):
        with_retrain(house, candidates=[strange]).retrain_here()


@pytest.mark.parametrize(
    ("opening", "arguments", "kind", "reason"),
    [
        (openings.open_and_die, (signal.SIGSEGV,), "crash", "was killed by SIGSEGV without a verdict"),
        (openings.open_and_die, (signal.SIGKILL,), "crash", "was killed by SIGKILL without a verdict"),
        (openings.open_and_leave, (), "crash", "exited with code 3 without a verdict"),
        (openings.open_and_raise, (), "RuntimeError", "no tools below "),
        (openings.open_and_devour, (), "memory", "more memory was needed than it may have"),
    ],
    ids=["segfault", "killed", "exit", "exception", "memory"],
)
def test_a_process_that_fails_says_how(
    house: House, opening: Callable[..., Any], arguments: tuple[object, ...], kind: str, reason: str
) -> None:
    ending = with_retrain(house, memory_mb=400).run(house.runner(opening, *arguments))
    assert isinstance(ending, Failed)
    assert ending.kind == kind
    assert reason in ending.reason
    assert ending.may_repeat == (kind == "crash")
    assert house.champion() == 1


def test_a_process_that_takes_too_long_is_ended(house: House, tmp_path: Path) -> None:
    house = with_retrain(house, timeout_s=0.5)
    ending = house.run(house.runner(openings.open_and_hang, tmp_path / "pids"))
    assert ending == Failed(kind="timeout", reason="ended after the limit of 0.5 s", may_repeat=False)


def test_a_process_that_is_told_to_end_and_is_deaf_is_ended_with_all_it_started(
    house: House, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    marker = tmp_path / "pids"
    runner = house.runner(openings.open_and_hang, marker)
    assert runner.run(house.order(), lambda: not marker.exists()) == Stopped()
    wait_until(lambda: not any(is_alive(int(pid)) for pid in marker.read_text().split()), 10)


def test_a_process_and_all_it_started_die_with_their_trainer(
    house: House, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    marker = tmp_path / "pids"
    code = (
        "import sys, pathlib; from tests.contract.retraining_house import *\n"
        "root, marker = map(pathlib.Path, sys.argv[1:])\n"
        "house = House(small_settings(root)); house.run(house.runner(open_and_hang, marker))"
    )
    arguments = [sys.executable, "-c", code, str(house.settings.storage.root), str(marker)]
    with subprocess.Popen(arguments, cwd=ROOT) as trainer:
        wait_until(marker.exists, 60)
        trainer.kill()
    wait_until(lambda: not any(is_alive(int(pid)) for pid in marker.read_text().split()), 10)


def test_a_job_whose_process_died_is_tried_again(house: House, tmp_path: Path) -> None:
    service = house.service(house.runner(openings.open_and_die_once, tmp_path / "died"))
    assert house.work(service).status is JobStatus.RUNNING
    job = house.work(service)
    assert (job.status, job.attempts) == (JobStatus.SUCCEEDED, 2)
    assert events(house) == [RETRAIN_STARTED, RETRAIN_STARTED, RETRAIN_FINISHED]


def test_a_job_whose_process_always_dies_fails_in_the_end(house: House) -> None:
    service = house.service(house.runner(openings.open_and_die, signal.SIGABRT))
    house.work(service)
    job = house.work(service)
    assert (job.status, job.attempts, job.verdict) == (JobStatus.FAILED, 2, {"error": "crash"})
    assert "SIGABRT" in job.reason
    assert events(house)[-1] == RETRAIN_FAILED
    assert ("model_retraining_failure", 1.0, {"model": "m", "error_type": "crash"}) in house.heard.facts
    assert not service.work_once(threading.Event()), "a failure starts nothing anew"
    assert [v.number for v in house.rooms.stores.registry.versions("m")] == [1]


async def test_a_crash_between_gate_and_promotion_registers_nothing_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = with_retrain(house, candidates=[TREE, DUMMY])
    service = house.service()
    with monkeypatch.context() as crashing:
        crashing.setenv("STREAM_APP_CRASH", "gate_pass")
        assert house.work(service).status is JobStatus.RUNNING
    registry, control = house.rooms.stores.registry, house.rooms.stores.control
    assert (house.champion(), control.waiting("m")) == (1, [])
    job = house.work(service)
    assert (job.status, job.attempts, job.version) == (JobStatus.SUCCEEDED, 2, 3)
    assert [v.number for v in registry.versions("m")] == [3, 2, 1]
    assert [body for _, _, body in control.waiting("m")] == [{"version": 3, "parent": 1}]
    await learn(house.settings, 1, start=600)
    assert house.champion() == 3


def test_a_job_that_another_trainer_took_registers_nothing(house: House) -> None:
    with pytest.raises(Fenced, match="job 1 is another trainer's now: nothing was registered"):
        house.retrain_here(holder="another")
    assert [v.number for v in house.rooms.stores.registry.versions("m")] == [1]


async def test_a_batch_champion_is_judged_by_its_answers_and_gives_way_to_the_online_learner(house: House) -> None:
    house.retrain_here()
    await learn(house.settings, 60, start=600)
    assert house.champion() == 2
    house = with_retrain(house, candidates=[DUMMY])
    result = house.retrain_here()
    # 59 or 60 rows have the answers of their time, the others those of its stored bytes
    assert (result.status, result.verdict["compared_rows"]) == (JobStatus.REJECTED, 132)
    assert result.verdict["scores"]["version 2"]["accuracy"] == 1.0
    await learn(house.settings, 400, start=660, turned=True)
    result = house.retrain_here()
    assert (result.status, result.version) == (JobStatus.SUCCEEDED, None)
    assert "online beats version 2 by" in result.reason
    await learn(house.settings, 1, start=1_060)
    assert house.champion() == 1


@pytest.mark.parametrize(
    ("task", "tree", "label"),
    [
        ("multiclass", "tree.DecisionTreeClassifier", lambda a, c: "xyz"[int(a > 5) + (c == "u")]),
        ("regression", "tree.DecisionTreeRegressor", lambda a, c: float(a > 5) * 10 + (c == "u")),
    ],
)
async def test_every_task_is_retrained_with_categories_and_gaps(
    tmp_path: Path, task: str, tree: str, label: Callable[[float, str], Any]
) -> None:
    candidates = [{"name": tree, "params": {"max_depth": 4}}]
    changes = {
        "task": task,
        "features": {"a": {"required": False}, "c": {"type": "category"}},
        "classes": ["x", "y", "z"] if task == "multiclass" else None,
        "retrain": {"candidates": candidates, "min_rows": 100, "min_gain": 0.1},
    }
    house = House(settings_of(tmp_path, **changes))

    def chosen(n: int, start: int) -> list[dict[str, Any]]:
        plain = [(r["a"], "uvw"[i % 3]) for i, r in enumerate(crossed(n, start=start))]
        return [{"a": None if i % 50 == 7 else a, "c": c, "y": label(a, c)} for i, (a, c) in enumerate(plain)]

    await learn_records(house.settings, chosen(400, 0))
    first = house.retrain_here()
    assert (first.status, first.version) == (JobStatus.SUCCEEDED, 2), first.reason
    await learn_records(house.settings, chosen(400, 400), start=400)
    assert house.champion() == 2
    second = house.retrain_here()
    # the champion answered the holdout when it was new: nothing was loaded, and the same tree is hardly better
    assert second.status is JobStatus.REJECTED, second.reason
    assert second.verdict["compared_rows"] == second.verdict["holdout_rows"] == 160
    assert second.verdict["scores"]["version 2"]["left_out"] == 0
    assert not any("cannot be loaded" in words for words in house.said)


async def test_an_online_learner_that_cannot_be_folded_again_is_missed_only_as_champion(house: House) -> None:
    def dropped(model: str, *, after: int, through: int) -> Any:  # noqa: ANN401, ARG001 - the face of the tool
        raise NotFound(f"{model}: window 1 was dropped by retention")

    with pytest.raises(NotFound, match="dropped by retention"):
        house.retrain_here(online_outputs=dropped)
    house.give_up()
    house.retrain_here()
    await learn(house.settings, 1, start=600)
    result = house.retrain_here(online_outputs=dropped)
    assert list(result.verdict["scores"]) == ["version 2", "DecisionTreeClassifier"]
    assert "the online learner cannot be folded again: m: window 1 was dropped by retention" in house.said


async def test_a_champion_whose_bytes_are_gone_is_not_beaten(house: House) -> None:
    house.retrain_here()
    await learn(house.settings, 1, start=600)
    artifact = house.rooms.stores.registry.version("m", 2).artifact
    assert artifact is not None
    house.rooms.stores.artifacts.delete(artifact.path)
    result = house.retrain_here()
    assert result.status is JobStatus.REJECTED
    assert result.reason == "the champion's answers are missing for 120 of 120 rows, at most 20% may be"
    assert any(words.startswith("version 2 cannot be loaded") for words in house.said)


def test_stored_bytes_that_were_changed_do_not_pass(house: House) -> None:
    house.retrain_here()
    artifact = house.rooms.stores.registry.version("m", 2).artifact
    assert artifact is not None
    path = Path(house.rooms.artifact_place) / artifact.path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(Corrupt, match=r"does not work in a fresh process \(exit 1\): artifact .* expected sha256"):
        load_in_fresh_process(house.rooms.artifact_place, house.rooms.signer.public_pem(), artifact)
