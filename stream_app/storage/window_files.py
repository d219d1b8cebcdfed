"""Window files on disk: created once under a name nobody else has, durable before anybody hears of them."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from stream_app.crashpoints import crashpoint
from stream_app.errors import Outage
from stream_app.storage.durable import make_folder, sync_folder

FOLDER: Final = "windows"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file that lies in a model's folder, whether or not the database knows it."""

    #: relative to the storage root
    path: str
    #: of the owner in whose time it was written
    epoch: int
    #: seconds since the epoch
    modified_at: float


class WindowFiles:
    """The folder `<root>/windows`, a folder per model in it."""

    def __init__(self, root: Path) -> None:
        """`root` is the storage root, to which all paths here are relative."""
        self._root = root
        self._failure: str | None = None

    def write(self, model: str, epoch: int, seqs: tuple[int, int], rows: int, content: pa.Buffer) -> dict[str, Any]:
        """Write a file that a power cut after the return cannot undo; return its row for `window_files`.

        Raises Outage, and from then on always: after a failed fsync the kernel may drop the data and call the
        next fsync a success, so only a process that starts from what is really on disk may go on.
        """
        if self._failure is not None:
            raise Outage(f"nothing is written since an earlier failure: {self._failure}")
        path = f"{FOLDER}/{model}/{epoch}-{seqs[0]}-{secrets.token_hex(8)}.parquet"
        try:
            self._write_durably(self._root / path, content)
        except OSError as error:
            self._failure = f"{path}: {error.strerror}"
            raise Outage(f"window file {self._failure}") from error
        return {
            "path": path,
            "model": model,
            "epoch": epoch,
            "first_seq": seqs[0],
            "last_seq": seqs[1],
            "row_count": rows,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": content.size,
        }

    def read(self, path: str) -> bytes:
        """Return a file's bytes; raises FileNotFoundError when it is gone, Outage when it cannot be read."""
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Outage(f"window file {path}: {error.strerror}") from error

    def check_exists(self, path: str) -> None:
        """Raise Outage unless the file is there."""
        if not (self._root / path).exists():
            raise Outage(f"window file {path} was swept away before its commit")

    def delete(self, path: str) -> None:
        """Remove a file if it is there; raises Outage."""
        try:
            (self._root / path).unlink(missing_ok=True)
        except OSError as error:
            raise Outage(f"window file {path}: {error.strerror}") from error

    def found(self, model: str) -> Iterator[FoundFile]:
        """Yield what lies in the model's folder; names that are not ours are passed over."""
        for file in (self._root / FOLDER / model).glob("*-*-*.parquet"):
            epoch = file.name.partition("-")[0]
            modified_at = _modified_at(file)
            if epoch.isdecimal() and modified_at is not None:
                path = str(file.relative_to(self._root))
                yield FoundFile(path=path, epoch=int(epoch), modified_at=modified_at)

    def _write_durably(self, path: Path, content: pa.Buffer) -> None:
        """1. the bytes, 2. the file synced, 3. its name synced in the folder."""
        make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)  # 1
            file.flush()
            crashpoint("file_written")
            os.fsync(file.fileno())  # 2
        sync_folder(path.parent)  # 3
        crashpoint("file_durable")


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None  # another sweep was faster
