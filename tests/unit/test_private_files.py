"""A secret in a file is made once, and read only where nobody else could have."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stream_app.errors import Misconfigured
from stream_app.storage.keys import checkpoint_key
from stream_app.storage.private_files import kept_secret
from stream_app.storage.signing import open_signer

#: Each key of ours: the file that holds it, and how it is read from below a storage folder.
KEYS = [
    pytest.param("checkpoint.key", checkpoint_key, id="checkpoints"),
    pytest.param("signing.pem", lambda root: open_signer(root).public_pem(), id="signatures"),
]
Read = Callable[[Path], object]


def _mounted(root: Path, name: str) -> Path:
    """Move the file elsewhere and leave links to it, as orchestrators mount secrets; return where it is."""
    (root / "mount" / "of today").mkdir(parents=True)
    link = root / "keys" / name
    file = link.rename(root / "mount" / "of today" / name)
    (root / "mount" / "now").symlink_to("of today")
    link.symlink_to(root / "mount" / "now" / name)
    return file


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "one"
    assert kept_secret(path, lambda: b"first", what="it") == "first"
    assert kept_secret(path, lambda: b"second", what="it") == "first"


@pytest.mark.parametrize(("name", "read"), KEYS)
def test_a_key_may_be_mounted_as_a_link(tmp_path: Path, name: str, read: Read) -> None:
    key = read(tmp_path)
    _mounted(tmp_path, name)
    assert read(tmp_path) == key


@pytest.mark.parametrize(("name", "read"), KEYS)
def test_what_a_link_leads_to_must_be_private(tmp_path: Path, name: str, read: Read) -> None:
    read(tmp_path)
    _mounted(tmp_path, name).chmod(0o644)
    with pytest.raises(Misconfigured, match=rf"{name}: mode 0644, expected 0600: others could read the \w+ key"):
        read(tmp_path)


@pytest.mark.parametrize(("name", "read"), KEYS)
def test_a_link_to_nothing_is_a_wrong_setting_and_makes_no_key(tmp_path: Path, name: str, read: Read) -> None:
    read(tmp_path)
    mounted = _mounted(tmp_path, name)
    mounted.unlink()
    with pytest.raises(Misconfigured, match="key cannot be kept there"):
        read(tmp_path)
    assert not mounted.exists()


@pytest.mark.parametrize(("name", "read"), KEYS)
def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path, name: str, read: Read) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="key cannot be kept there"):
        read(tmp_path / "file")
    assert not list(tmp_path.rglob(name))


@pytest.mark.parametrize(("name", "read"), KEYS)
def test_bytes_that_are_no_text_are_a_wrong_setting(tmp_path: Path, name: str, read: Read) -> None:
    read(tmp_path)
    (tmp_path / "keys" / name).write_bytes(b"\xff\x00\xfe" * 20)
    with pytest.raises(Misconfigured, match=r"not in hex|expected an Ed25519 private key"):
        read(tmp_path)
