"""Signed bytes under names that no client chooses.

An artifact is only ever returned after its size, digest and signature were checked on exactly the bytes that
are returned. A local folder is written atomically and durably; any other store is reached through fsspec.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Protocol

import fsspec

from stream_app.errors import Conflict, Corrupt, Misconfigured, Outage
from stream_app.redaction import without_credentials
from stream_app.storage.durable import create_file, make_folder
from stream_app.storage.signing import Purpose, Signer, Verifier
from stream_app.values import StoredArtifact

#: Protocols that need s3fs.
_S3: Final = frozenset({"s3", "s3a"})
#: One to six names, none of which can lead elsewhere.
_PATH: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63}){0,5}", re.ASCII)


def check_location(location: str | Path) -> None:
    """Raise Misconfigured for a URL that no store here can open; reaches nothing."""
    protocol, separator, _ = str(location).partition("://")
    if not separator:
        return
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        extra = (
            "what pip install 'stream-app[s3]' brings"
            if protocol in _S3
            else "a folder or a URL such as s3://BUCKET/FOLDER"
        )
        shown = without_credentials(repr(str(location)))
        raise Misconfigured(f"storage.artifacts = {shown} ({error}): expected {extra}") from error


def artifact_path(model: str, version: str, content: bytes) -> str:
    """Return where a version's or snapshot's bytes belong.

    The digest is part of the name: effects that are repeated after a crash may pickle other bytes for the same
    state, and must not collide with what the first try left behind.
    """
    return f"{model}/{version}-{hashlib.sha256(content).hexdigest()[:16]}.zip"


class ArtifactReader:
    """Reads verified artifacts; all that a subscriber needs."""

    def __init__(self, location: str | Path, verifier: Verifier) -> None:
        """`location` is a folder or an fsspec URL, e.g. s3://bucket/models."""
        self._folder = _open_folder(location)
        self._verifier = verifier

    def get(self, artifact: StoredArtifact) -> bytes:
        """Return the bytes after checking size, digest and signature; raises Corrupt, or Outage if absent."""
        _check_path(artifact.path)
        self._verifier.check(Purpose.ARTIFACT, _signed(artifact.path, artifact.sha256), artifact.signature)
        # One byte more than announced shows that there is more, without ever reading it all.
        content = self._folder.read(artifact.path, artifact.size + 1)
        if len(content) != artifact.size:
            raise Corrupt(f"artifact {artifact.path}: expected {artifact.size} bytes, found another size")
        digest = hashlib.sha256(content).hexdigest()
        if digest != artifact.sha256:
            raise Corrupt(f"artifact {artifact.path}: expected sha256 {artifact.sha256}, found {digest}")
        return content


class SignedArtifacts(ArtifactReader):
    """The store of those who publish: `ports.ArtifactStore`."""

    def __init__(self, location: str | Path, signer: Signer) -> None:
        """`location` as for the reader."""
        super().__init__(location, signer.verifier())
        self._signer = signer

    def put(self, path: str, content: bytes) -> StoredArtifact:
        """Write durably and return digest, size and signature.

        The same bytes again are fine, and are as young as new ones from then on; other bytes under a name that is
        taken raise Conflict.
        """
        _check_path(path)
        if not self._folder.create(path, content):
            if self._folder.read(path, len(content) + 1) != content:
                raise Conflict(f"artifact {path} exists with other bytes")
            # whoever sweeps must not take what is about to be registered for what a crash left behind
            self._folder.renew(path, content)
        digest = hashlib.sha256(content).hexdigest()
        signature = self._signer.sign(Purpose.ARTIFACT, _signed(path, digest))
        return StoredArtifact(path=path, sha256=digest, size=len(content), signature=signature)

    def delete(self, path: str) -> None:
        """Remove the artifact if it is there."""
        _check_path(path)
        self._folder.remove(path)

    def remove_orphans(self, model: str, *, known: Collection[str], before: float) -> int:
        """Remove what was last put before that time, in seconds, and is at none of the known paths; return how many.

        Raises Outage, and Corrupt for a folder that leads elsewhere. A store that cannot tell ages keeps everything.
        """
        _check_path(model)
        removed = 0
        for path in self._folder.found(model):
            if path in known:
                continue
            put_at = self._folder.put_at(path)  # right before: what is put again meanwhile is young
            if put_at is not None and put_at < before:
                self._folder.remove(path)
                removed += 1
        return removed


def _signed(path: str, digest: str) -> bytes:
    # The path is part of it: a valid artifact cannot be passed off as another model's or version's.
    return f"{digest}:{path}".encode()


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path) or ".." in path:
        raise Corrupt(f"artifact path {path!r}: expected lower-case names joined by '/', nothing else")


class _Folder(Protocol):
    def create(self, path: str, content: bytes) -> bool: ...

    def read(self, path: str, limit: int) -> bytes: ...

    def remove(self, path: str) -> None: ...

    def renew(self, path: str, content: bytes) -> None: ...

    def found(self, folder: str) -> Sequence[str]: ...

    def put_at(self, path: str) -> float | None: ...


def _open_folder(location: str | Path) -> _Folder:
    text = str(location)
    if "://" not in text:
        return _LocalFolder(Path(text))
    if text.startswith("file://"):
        return _LocalFolder(Path(text.removeprefix("file://")))
    return _RemoteFolder(text)


class _LocalFolder:
    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def create(self, path: str, content: bytes) -> bool:
        target = self._root / path
        try:
            make_folder(target.parent)
            return create_file(self._inside(target), content)
        except OSError as error:
            raise Outage(f"artifact {path} could not be written: {error}") from error

    def read(self, path: str, limit: int) -> bytes:
        target = self._inside(self._root / path)
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Corrupt(f"artifact {path} is no regular file")
                return file.read(limit)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Corrupt(f"artifact {path} is a link, expected a regular file") from error
            raise Outage(f"artifact {path} could not be read: {error}") from error

    def remove(self, path: str) -> None:
        target = self._inside(self._root / path)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise Outage(f"artifact {path} could not be removed: {error}") from error

    def renew(self, path: str, content: bytes) -> None:
        del content
        try:
            os.utime(self._inside(self._root / path), follow_symlinks=False)
        except OSError as error:
            raise Outage(f"artifact {path} could not be renewed: {error}") from error

    def found(self, folder: str) -> Sequence[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                # drafts, too: a crash may leave one
                return [f"{folder}/{entry.name}" for entry in entries if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Outage(f"artifacts of {folder} could not be listed: {error}") from error

    def put_at(self, path: str) -> float | None:
        try:
            return (self._root / path).lstat().st_mtime
        except OSError:  # somebody else removed it
            return None

    def _inside(self, target: Path) -> Path:
        # A folder that was replaced by a link would lead outside although each name is harmless.
        if not target.parent.resolve().is_relative_to(self._root.resolve()):
            raise Corrupt(f"artifact {target}: its folder leads out of {self._root}")
        return target


class _RemoteFolder:
    # Each store raises errors of its own; whatever it says, it cannot be used now, and that is an outage.

    def __init__(self, url: str) -> None:
        check_location(url)
        try:
            self._store, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            shown = without_credentials(repr(url))
            raise Misconfigured(f"storage.artifacts = {shown}: cannot be opened: {error}") from error

    def create(self, path: str, content: bytes) -> bool:
        try:
            self._store.pipe_file(self._at(path), content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            raise Outage(f"artifact {path} could not be written: {error}") from error
        return True

    def read(self, path: str, limit: int) -> bytes:
        try:
            # Not cat_file with a range: stores disagree about ranges beyond the end.
            with self._store.open(self._at(path), "rb") as file:
                return bytes(file.read(limit))
        except Exception as error:
            raise Outage(f"artifact {path} could not be read: {error}") from error

    def remove(self, path: str) -> None:
        try:
            self._store.rm_file(self._at(path))
        except FileNotFoundError:
            return
        except Exception as error:
            raise Outage(f"artifact {path} could not be removed: {error}") from error

    def renew(self, path: str, content: bytes) -> None:
        try:
            self._store.pipe_file(self._at(path), content)
        except Exception as error:
            raise Outage(f"artifact {path} could not be renewed: {error}") from error

    def found(self, folder: str) -> Sequence[str]:
        try:
            self._store.invalidate_cache()
            listed = self._store.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise Outage(f"artifacts of {folder} could not be listed: {error}") from error
        return [f"{folder}/{one['name'].rpartition('/')[2]}" for one in listed if one["type"] == "file"]

    def put_at(self, path: str) -> float | None:
        try:
            self._store.invalidate_cache()  # else some stores answer from the listing
            return float(self._store.modified(self._at(path)).timestamp())
        except (FileNotFoundError, NotImplementedError):  # somebody else removed it, or the store does not know
            return None
        except Exception as error:
            raise Outage(f"the age of artifact {path} could not be read: {error}") from error

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"
