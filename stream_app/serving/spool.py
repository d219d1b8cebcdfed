"""Predictions on their way to Kafka, on disk: they outlive a broker that is away and a process that is killed.

A folder below the root for each process that serves, locked while it lives. An append is one write without
fsync: the kernel keeps it when the process dies, and a machine that dies has lost its answers' readers as well.
Lines are read from the oldest file on; one that is wholly delivered is deleted, or emptied where it is the last.
"""

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from stream_app.storage.durable import make_folder

#: A file that has grown to this is followed by another. It bounds what is sent twice after a crash, too.
SEGMENT_BYTES: Final = 4_194_304
_LOCK: Final = "lock"
_ENDING: Final = ".lines"


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to be delivered, and how far that brings us."""

    lines: Sequence[bytes]
    path: Path
    #: where in the file the first line after these begins
    end: int


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    #: everything before it was delivered
    sent: int = 0


class Spool:
    """A bounded queue of lines on disk; append from any thread, read and advance from one."""

    def __init__(self, root: Path, *, most_bytes: int) -> None:
        """Take over what processes that ended have left in `root`, and begin a folder of our own."""
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        #: oldest first; the last one is written to while `_file` is open
        self._segments: list[_Segment] = []
        self._orphans: dict[Path, IO[bytes]] = {}
        self._file: int | None = None
        make_folder(root)
        self._adopt(root)
        self._folder, self._held = _own_folder(root)

    @property
    def waiting_bytes(self) -> int:
        """Return how many bytes were not delivered yet."""
        with self._lock:
            return self._waiting()

    def append(self, lines: Sequence[bytes]) -> bool:
        """Keep the lines, none of which holds a line feed; False if there is no room or the disk refuses."""
        content = b"\n".join(lines) + b"\n"
        with self._lock:
            if self._waiting() + len(content) > self._most_bytes:
                return False
            try:
                self._write(content)
            except OSError:
                return False
            return True

    def read(self, most_lines: int) -> Batch | None:
        """Return the oldest lines that were not delivered, None when there are none."""
        with self._lock:
            segment = next((one for one in self._segments if one.sent < one.size), None)
            if segment is None:
                return None
            start, stop = segment.sent, segment.size
        return _lines(segment.path, start, stop, most_lines)

    def advance(self, batch: Batch) -> None:
        """Forget lines that were delivered."""
        with self._lock:
            for segment in self._segments:
                if segment.path == batch.path:
                    segment.sent = batch.end
            self._clear()

    def close(self) -> None:
        """Let go of the folder; what waits in it is the next process's."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            self._clear()
            if not any(segment.path.parent == self._folder for segment in self._segments):
                shutil.rmtree(self._folder, ignore_errors=True)
            for lock in (self._held, *self._orphans.values()):
                lock.close()

    def _waiting(self) -> int:
        return sum(segment.size - segment.sent for segment in self._segments)

    def _write(self, content: bytes) -> None:
        file, segment = self._open_segment()
        try:
            _write_all(file, content)
        except OSError:
            os.ftruncate(file, segment.size)  # half a line would spoil the next one
            raise
        segment.size += len(content)

    def _open_segment(self) -> tuple[int, _Segment]:
        if self._file is not None and self._segments[-1].size < SEGMENT_BYTES:
            return self._file, self._segments[-1]
        path = self._folder / f"{secrets.token_hex(8)}{_ENDING}"
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file = opened
        self._segments.append(_Segment(path, 0))
        return opened, self._segments[-1]

    def _clear(self) -> None:
        """Delete files that are wholly delivered; the one that is written to is emptied instead."""
        for segment in [one for one in self._segments if one.sent >= one.size]:
            if self._file is not None and segment is self._segments[-1]:
                os.ftruncate(self._file, 0)
                segment.size = segment.sent = 0
            else:
                segment.path.unlink(missing_ok=True)
                self._segments.remove(segment)
        self._leave_orphans()

    def _leave_orphans(self) -> None:
        needed = {segment.path.parent for segment in self._segments}
        for folder in self._orphans.keys() - needed:
            shutil.rmtree(folder, ignore_errors=True)
            self._orphans.pop(folder).close()

    def _adopt(self, root: Path) -> None:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            lock = _locked(folder)
            if lock is None:
                continue  # its process lives
            self._orphans[folder] = lock
            files = sorted(folder.glob(f"*{_ENDING}"), key=lambda path: path.stat().st_mtime_ns)
            self._segments += [_Segment(path, _whole_lines(path)) for path in files]
        self._clear()


def _own_folder(root: Path) -> tuple[Path, IO[bytes]]:
    """Make a folder and lock it; another process that starts now may be faster and take it for an orphan's."""
    while True:
        folder = root / secrets.token_hex(8)
        make_folder(folder)
        lock = _locked(folder)
        if lock is not None:
            return folder, lock


def _locked(folder: Path) -> IO[bytes] | None:
    """Return the lock of a folder, None while another process holds it or when it has just been removed."""
    try:
        file = (folder / _LOCK).open("ab")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _whole_lines(path: Path) -> int:
    """Return where the last whole line ends: the process may have died within the next."""
    return path.read_bytes().rfind(b"\n") + 1


def _lines(path: Path, start: int, stop: int, most_lines: int) -> Batch:
    with path.open("rb") as file:
        file.seek(start)
        # what is behind the last line feed is nothing, or the lines for which there was no room
        taken = file.read(stop - start).split(b"\n", most_lines)[:-1]
    return Batch(taken, path, start + sum(len(line) + 1 for line in taken))
