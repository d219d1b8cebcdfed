"""What a crash or time left behind is removed; what anybody may still need is not."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_app.ports import Stores
from stream_app.storage.artifacts import SignedArtifacts
from stream_app.storage.retention import Published
from stream_app.storage.signing import Signer
from stream_app.testing import InMemoryJobs, InMemoryRegistry
from stream_app.trainer.sweeping import KEEP_LOGS, YOUNG_S, Sweeper
from stream_app.values import JobStatus, StoredArtifact, Version, VersionStatus

#: Files that are put during a test have the real time.
NOW = time.time()


@dataclass
class House:
    """A store of artifacts on a local folder, fakes of the rest, and a sweeper whose clock stands still."""

    root: Path

    def __post_init__(self) -> None:
        self.registry, self.jobs = InMemoryRegistry(), InMemoryJobs()
        self.registry.add_model("m")
        self.artifacts = SignedArtifacts(self.root / "artifacts", Signer(Ed25519PrivateKey.generate()))
        self.logs = self.root / "logs"
        self.logs.mkdir()
        rest: Any = None
        stores = Stores(
            log=rest,
            partitions=rest,
            publications=rest,
            control=rest,
            checkpoints=rest,
            artifacts=self.artifacts,
            registry=self.registry,
            jobs=self.jobs,
            outbox=rest,
            leases=rest,
            switches=rest,
        )
        self.sweeper = Sweeper(stores, logs=self.logs, clock=lambda: NOW)

    def put(self, name: str, *, age_s: float) -> StoredArtifact:
        """Store an artifact that was put so long ago."""
        stored = self.artifacts.put(f"m/{name}", name.encode())
        self.age(f"artifacts/m/{name}", age_s)
        return stored

    def age(self, path: str, age_s: float) -> None:
        os.utime(self.root / path, (NOW - age_s, NOW - age_s))

    def log(self, name: str, *, age_s: float) -> None:
        (self.logs / name).write_text("words")
        self.age(f"logs/{name}", age_s)

    def left(self, folder: str) -> set[str]:
        return {file.name for file in (self.root / folder).iterdir()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def version(artifact: StoredArtifact | None) -> Version:
    return Version(
        model="m",
        number=0,
        kind="batch",
        algorithm="any",
        status=VersionStatus.GATED,
        artifact=artifact,
        metrics={},
        trained_through=1,
        row_count=100,
        rows_digest="",
        parent=0,
        trigger="manual",
        created_at=0.0,
    )


def test_an_old_artifact_that_nobody_registered_is_removed_and_a_young_one_is_not(house: House) -> None:
    house.put("2-old.zip", age_s=YOUNG_S + 1)
    house.put("3-young.zip", age_s=YOUNG_S - 1)
    house.sweeper.sweep()
    assert house.left("artifacts/m") == {"3-young.zip"}


def test_what_a_version_or_a_snapshot_refers_to_stays_however_old(house: House) -> None:
    house.registry.register(version(None))
    house.registry.register(version(house.put("2-a.zip", age_s=99 * YOUNG_S)))
    snapshot = house.put("1.57-b.zip", age_s=99 * YOUNG_S)
    house.registry.publish(
        Published(model="m", promotion_seq=1, version="1.57", published_at=0.0, artifact=snapshot),
    )
    house.sweeper.sweep()
    assert house.left("artifacts/m") == {"2-a.zip", "1.57-b.zip"}


def test_what_was_put_again_is_young_again(house: House) -> None:
    """A retrain that is taken up days after its crash puts the same bytes: they are about to be registered."""
    artifact = house.put("2-a.zip", age_s=YOUNG_S + 1)
    assert house.artifacts.put("m/2-a.zip", b"2-a.zip") == artifact
    house.sweeper.sweep()
    assert house.artifacts.get(artifact) == b"2-a.zip"


def test_a_draft_that_a_crash_left_is_removed_and_what_is_no_file_of_ours_stays(house: House) -> None:
    house.put("2-a.zip", age_s=0)
    folder = house.root / "artifacts" / "m"
    (folder / "link").symlink_to("2-a.zip")
    (folder / ".draft").write_bytes(b"half")
    house.age("artifacts/m/.draft", YOUNG_S + 1)
    house.sweeper.sweep()
    assert house.left("artifacts/m") == {"2-a.zip", "link"}


def test_logs_of_forgotten_jobs_are_removed_when_they_are_old(house: House) -> None:
    for _ in range(KEEP_LOGS + 1):
        job, _ = house.jobs.request("m", "manual", now=0.0)
        claimed = house.jobs.claim(holder="a", now=0.0, lease_s=1.0)
        assert claimed is not None
        house.jobs.finish(replace(claimed, status=JobStatus.FAILED), holder="a")
        house.log(f"{job.id}.log", age_s=YOUNG_S + 1)
    house.log("900.log", age_s=YOUNG_S + 1)
    house.log("901.log", age_s=YOUNG_S - 1)
    house.sweeper.sweep()
    assert house.left("logs") == {"901.log", *(f"{number}.log" for number in range(2, KEEP_LOGS + 2))}


def test_a_folder_that_leads_elsewhere_is_left_alone_and_sweeping_goes_on(
    house: House, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    house.put("2-a.zip", age_s=YOUNG_S + 1)
    (house.root / "artifacts" / "m").rename(house.root / "elsewhere")
    (house.root / "artifacts" / "m").symlink_to(house.root / "elsewhere")
    stop = threading.Event()
    thread = threading.Thread(target=house.sweeper.run, args=(stop,))
    thread.start()
    wait_until(lambda: "leads out of" in caplog.text, 10)
    assert thread.is_alive()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert house.left("elsewhere") == {"2-a.zip"}


def test_a_remote_store_is_swept_the_same_way(unique: Callable[[str], str]) -> None:
    location = f"memory://{unique('store')}"
    artifacts = SignedArtifacts(location, Signer(Ed25519PrivateKey.generate()))
    assert artifacts.remove_orphans("m", known=set(), before=NOW) == 0
    for name in ("m/1.zip", "m/2.zip"):
        artifacts.put(name, b"x")
    filesystem, root = fsspec.core.url_to_fs(location)
    put_at = filesystem.modified(f"{root}/m/1.zip").timestamp()
    assert artifacts.remove_orphans("m", known=set(), before=put_at) == 0
    assert artifacts.remove_orphans("m", known={"m/2.zip"}, before=put_at + 60) == 1
    assert [name.rpartition("/")[2] for name in filesystem.ls(f"{root}/m", detail=False)] == ["2.zip"]
