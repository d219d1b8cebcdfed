"""`stream-app models` and `log stats` as a user types them, over a log that the test writes as its worker would."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from stream_app.bootstrap import Rooms
from stream_app.cli import models
from stream_app.configuration import load
from stream_app.ports import Effects, Publication
from stream_app.values import (
    Closing,
    ControlEntry,
    Counts,
    FoldReport,
    Partition,
    StoredArtifact,
    Tenure,
    Version,
    VersionStatus,
    Window,
    WindowHeader,
)
from stream_app.worker.opening import schema_of

Run = Callable[..., tuple[int, str, str]]

SETTINGS = '[models.m]\ntask = "binary"\ntarget = "y"\nclasses = [0, 1]\nfeatures = { x = {} }\n'
SCORES = {"online": {"accuracy": 0.5}, "ridge": {"accuracy": 0.75}}


@pytest.fixture
def run(tmp_path: Path, command: Run) -> Run:
    """Return `command` in a folder with settings."""
    (tmp_path / "stream_app.toml").write_text(SETTINGS)
    return command


class Worker:
    """Owns the model "m" of a folder, and does what it is told."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        schema = schema_of(rooms.model("m")).to_json()
        self._tenure: Tenure = rooms.log.take_over("m", owner="test", schema_json=schema, start={})
        self._seq = 0
        for version in (_version("online"), _version("batch"), _version("batch")):
            rooms.registry.register(version)

    def commit(self, *, control: Sequence[ControlEntry] = (), positions: dict[Partition, int] | None = None) -> None:
        """Commit an empty window that carries these."""
        self._seq += 1
        header = WindowHeader(
            model="m",
            epoch=self._tenure.epoch,
            seq=self._seq,
            closed_at=0.0,
            closing=Closing.CONTROL,
            positions=positions or {},
            origin_marks={},
            counts=Counts(),
            schema_id="s" * 64,
            fold_digest="f" * 64,
            rows_digest="",
            control=tuple(control),
        )
        self.rooms.log.commit(Window(header=header, rows=None))
        report = FoldReport(seq=self._seq, metrics={"learned": 7}, probe_hash="p" * 64)
        promoted = [_publication(int(entry.body["version"])) for entry in control if entry.accepted]
        effects = Effects(report=report, promoted=promoted[-1] if promoted else None)
        self.rooms.log.apply_effects("m", epoch=self._tenure.epoch, effects=effects)

    def accept(self) -> None:
        """Accept every request that waits, in one window."""
        entries = [
            ControlEntry(request_id=request, kind=kind, body=body, accepted=True, reason="")
            for request, kind, body in self.rooms.control.waiting("m")
        ]
        if entries:
            self.commit(control=entries)

    def promote(self, *numbers: int) -> None:
        """Let these versions serve, one after the other."""
        for number in numbers:
            self.rooms.control.ask("m", "promote", {"version": number}, by="test")
            self.accept()


def _version(kind: Literal["online", "batch"]) -> Version:
    online = kind == "online"
    scores = {} if online else {"metric": "accuracy", "accuracy": 0.75, "reason": "better by 0.25", "scores": SCORES}
    return Version(
        model="m",
        number=0,
        kind=kind,
        algorithm="river:LogisticRegression" if online else "sklearn:Ridge",
        status=VersionStatus.GATED,
        artifact=None if online else _artifact("x"),
        metrics=scores,
        trained_through=0,
        row_count=0,
        rows_digest="",
        parent=0,
        trigger="manual",
        created_at=0.0,
    )


def _artifact(name: str) -> StoredArtifact:
    return StoredArtifact(path=f"m/{name}.zip", sha256="a" * 64, size=3, signature="s")


def _publication(number: int) -> tuple[int, Publication]:
    version = "1.1" if number == 1 else str(number)
    return number, Publication(
        version=version, event=lambda _: b"{}", artifact=_artifact(version), algorithm="a", trained_through=1
    )


@pytest.fixture
def worker(run: Run) -> Worker:
    """Return the owner of a model with versions 1 (online), 2 and 3."""
    del run  # the folder is the working folder by now
    return Worker(Rooms(load()))


@pytest.fixture
def answering(worker: Worker, wait_until: Callable[..., None]) -> Iterator[Worker]:
    """Yield a worker that, beside, accepts what is asked of it."""

    def answer() -> None:
        wait_until(lambda: worker.rooms.control.waiting("m"), 20, what="a request")
        worker.accept()

    thread = threading.Thread(target=answer)
    thread.start()
    yield worker
    thread.join()


def test_a_promotion_names_the_window_that_answered_it(answering: Worker, run: Run) -> None:
    """Neither the number of the promotion nor the newest window when the answer is read."""
    for _ in range(3):
        answering.commit()
    code, _, err = run("models", "promote", "m", "2")
    assert code == 0
    assert "m: version 2 serves from window 4 on." in err
    assert answering.rooms.registry.champion("m") == (2, 1)


@pytest.mark.parametrize("served", [(1, 3, 1), (2, 3, 2)])
def test_a_rollback_goes_to_what_served_before_whatever_its_number(
    served: tuple[int, ...], worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.promote(*served)
    monkeypatch.setattr(models, "ANSWER_S", 0.0)
    run("models", "rollback", "m")
    ((_, kind, body),) = worker.rooms.control.waiting("m")
    assert (kind, body) == ("rollback", {"version": 3})


@pytest.mark.parametrize(("served", "said"), [((), "served before now"), ((1,), "served before version 1")])
def test_a_rollback_from_the_first_version_says_that_there_is_none(
    served: tuple[int, ...], said: str, worker: Worker, run: Run
) -> None:
    worker.promote(*served)
    code, _, err = run("models", "rollback", "m")
    assert code == 1
    assert f"m: no other version {said}" in err
    assert not worker.rooms.control.waiting("m")


def test_without_a_worker_the_request_is_said_to_wait(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "ANSWER_S", 0.2)
    code, out, err = run("models", "promote", "m", "2")
    assert (code, out) == (75, "")
    assert "Asked the model's worker; waiting for its answer, up to 0.2 s." in err
    assert "request 1 waits, and is applied when a worker that owns the model starts" in err
    assert len(worker.rooms.control.waiting("m")) == 1


def test_the_list_shows_a_time_and_its_json_a_number(worker: Worker, run: Run) -> None:
    created = worker.rooms.registry.models()[0]["created_at"]
    assert json.loads(run("models", "list", "--json")[1])[0]["created_at"] == created
    shown = run("models", "list")[1]
    assert str(created) not in shown
    assert "+00:00" in shown


@pytest.mark.usefixtures("worker")
def test_versions_are_shown_in_a_line_each_with_the_score_that_was_compared(run: Run) -> None:
    table = run("models", "show", "m")[1]
    assert "{" not in table
    assert "accuracy 0.75" in table
    assert "better by 0.25" in table
    assert json.loads(run("models", "show", "m", "--json")[1])["versions"][0]["metrics"]["scores"] == SCORES


def test_stats_show_the_position_in_the_topic_that_is_there_now(worker: Worker, run: Run) -> None:
    """The old incarnation's name sorts after the new one's, and its position is the greater one."""
    old = Partition(incarnation="z-old", topic="ground-truth", number=0)
    log = worker.rooms.partitions
    log.record_incarnation("ground-truth", "z-old", partitions=1)
    worker.commit(positions={old: 90, replace(old, topic="other"): 5})
    log.record_incarnation("other", "z-old", partitions=1)
    log.record_incarnation("ground-truth", "a-new", partitions=1)
    worker.commit(positions={replace(old, incarnation="a-new"): 7})
    stats = json.loads(run("log", "stats", "m", "--json")[1])
    assert stats["positions"] == {"ground-truth[0]": 7, "other[0]": 5}


def test_stats_and_verify_are_laid_out_for_people(worker: Worker, run: Run) -> None:
    place = Partition(incarnation="i", topic="ground-truth", number=0)
    worker.rooms.partitions.record_incarnation("ground-truth", "i", partitions=1)
    worker.commit(positions={place: 7})
    shown = run("log", "stats", "m")[1]
    assert "positions:\n  ground-truth[0]: 7\nelsewhere: none\n" in shown
    assert "{" not in run("log", "verify", "m")[1]
