"""The artifact store, on a local folder and on a remote store of fsspec."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_app.errors import Conflict, Corrupt, Misconfigured, Outage
from stream_app.storage.artifacts import ArtifactReader, SignedArtifacts, artifact_path
from stream_app.storage.signing import Signer

BAD_PATHS = [
    "",
    "/etc/passwd",
    "../x",
    "m/../x",
    "m/..",
    "m//x",
    "m/x/",
    "m/..%2fx/y..z",
    "M/x",
    "m/x\n",
    "m/x\0",
    "m/\u00e9",
    "file:///etc/passwd",
    "m/" + "x" * 65,
    "a/b/c/d/e/f/g",
]


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture(params=["folder", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "artifacts")
    return f"memory://{uuid4().hex}"


@pytest.fixture
def store(location: str, signer: Signer) -> SignedArtifacts:
    return SignedArtifacts(location, signer)


def overwrite(location: str, path: str, content: bytes) -> None:
    filesystem, root = fsspec.core.url_to_fs(location)
    filesystem.pipe_file(f"{root}/{path}", content)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_was_put_is_got_by_a_reader_with_the_public_key(
    store: SignedArtifacts, location: str, signer: Signer
) -> None:
    artifact = store.put("m/3.zip", b"model")
    assert ArtifactReader(location, signer.verifier()).get(artifact) == b"model"
    assert artifact.size == 5


def test_the_same_bytes_again_are_fine_and_other_bytes_are_not(store: SignedArtifacts) -> None:
    first = store.put("m/3.zip", b"model")
    assert store.put("m/3.zip", b"model") == first
    with pytest.raises(Conflict, match=r"m/3\.zip exists with other bytes"):
        store.put("m/3.zip", b"model2")
    assert store.get(first) == b"model"


def test_an_absent_artifact_is_an_outage(store: SignedArtifacts) -> None:
    """It may become visible a moment later: the caller retries."""
    artifact = store.put("m/3.zip", b"model")
    store.delete("m/3.zip")
    store.delete("m/3.zip")
    with pytest.raises(Outage, match=r"m/3\.zip could not be read"):
        store.get(artifact)


@pytest.mark.parametrize("content", [b"", b"mode", b"modfl", b"model and more"])
def test_other_bytes_in_its_place_are_refused(store: SignedArtifacts, location: str, content: bytes) -> None:
    artifact = store.put("m/3.zip", b"model")
    overwrite(location, "m/3.zip", content)
    with pytest.raises(Corrupt, match=r"m/3\.zip: expected"):
        store.get(artifact)


def test_a_signature_of_another_artifact_is_refused(store: SignedArtifacts) -> None:
    older, newer = store.put("m/2.zip", b"same"), store.put("m/3.zip", b"same")
    with pytest.raises(Corrupt, match="signature"):
        store.get(replace(newer, signature=older.signature))


def test_bytes_signed_with_another_key_are_refused(store: SignedArtifacts, location: str) -> None:
    foreign = SignedArtifacts(location, Signer(Ed25519PrivateKey.generate()))
    with pytest.raises(Corrupt, match="signature"):
        store.get(foreign.put("m/3.zip", b"model"))


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_could_lead_elsewhere_is_refused(store: SignedArtifacts, path: str) -> None:
    with pytest.raises(Corrupt, match="artifact path"):
        store.put(path, b"model")
    artifact = replace(store.put("m/3.zip", b"model"), path=path)
    with pytest.raises(Corrupt, match="artifact path"):
        store.get(artifact)
    with pytest.raises(Corrupt, match="artifact path"):
        store.delete(path)


def test_a_link_is_not_followed(tmp_path: Path, signer: Signer) -> None:
    store = SignedArtifacts(tmp_path / "artifacts", signer)
    artifact = store.put("m/3.zip", b"model")
    target = tmp_path / "artifacts" / "m" / "3.zip"
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Corrupt, match="is a link"):
        store.get(artifact)


def test_a_linked_folder_is_not_followed(tmp_path: Path, signer: Signer) -> None:
    store = SignedArtifacts(tmp_path / "artifacts", signer)
    artifact = store.put("m/3.zip", b"model")
    (tmp_path / "artifacts" / "m").rename(tmp_path / "elsewhere")
    (tmp_path / "artifacts" / "m").symlink_to(tmp_path / "elsewhere")
    for act in (lambda: store.get(artifact), lambda: store.put("m/4.zip", b"x"), lambda: store.delete("m/3.zip")):
        with pytest.raises(Corrupt, match="leads out of"):
            act()
    assert names(tmp_path / "elsewhere") == ["3.zip"]


def test_a_pipe_in_its_place_neither_hangs_nor_loads(tmp_path: Path, signer: Signer) -> None:
    store = SignedArtifacts(tmp_path / "artifacts", signer)
    artifact = store.put("m/3.zip", b"model")
    (tmp_path / "artifacts" / "m" / "3.zip").unlink()
    os.mkfifo(tmp_path / "artifacts" / "m" / "3.zip")
    with pytest.raises(Corrupt, match="no regular file"):
        store.get(artifact)


def test_no_draft_is_left_behind(tmp_path: Path, signer: Signer) -> None:
    store = SignedArtifacts(tmp_path / "artifacts", signer)
    store.put("m/3.zip", b"model")
    store.put("m/3.zip", b"model")
    assert names(tmp_path / "artifacts" / "m") == ["3.zip"]


def test_bytes_and_name_are_synced_before_put_returns(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file before its name appears, the folder after: else a power cut leaves a name without bytes, or neither."""
    steps: list[str] = []
    sync, link = os.fsync, os.link

    def record_sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def record_link(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        steps.append("link")
        link(source, target, follow_symlinks=follow_symlinks)

    (tmp_path / "m").mkdir()
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "link", record_link)
    store = SignedArtifacts(tmp_path, signer)
    store.put("m/3.zip", b"model")
    assert steps == ["file", "link", "folder"]
    store.put("m/3.zip", b"model")
    assert steps[3:] == ["file", "link", "folder"], "the first try may have died before its last step"


def test_a_store_of_an_unknown_kind_is_a_wrong_setting(signer: Signer) -> None:
    with pytest.raises(Misconfigured, match=r"storage\.artifacts = 'nonsense://x'"):
        SignedArtifacts("nonsense://x", signer)


def test_the_place_of_a_snapshot_follows_from_its_bytes(store: SignedArtifacts) -> None:
    first, second = artifact_path("m", "1.57", b"a"), artifact_path("m", "1.57", b"b")
    assert first != second
    assert store.get(store.put(first, b"a")) == b"a"
