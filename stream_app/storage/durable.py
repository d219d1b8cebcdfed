"""Creating a local file so that a power cut or a second writer leaves all of one file or nothing."""

import os
import secrets
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make the folder (mode 0700) and those above it, each name durable in the folder that holds it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def create_file(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Create the file; False, and nothing changed, if the name is taken.

    1. all bytes into a draft beside it, synced
    2. a link under the final name, which unlike a rename never replaces another writer's file
    3. the folder synced, without which the name itself could vanish
    """
    draft = path.with_name(f".{secrets.token_hex(16)}")
    try:
        _write_synced(draft, content, mode)
        os.link(draft, path, follow_symlinks=False)
        created = True
    except FileExistsError:
        created = False
    finally:
        draft.unlink(missing_ok=True)
    # Also when the name was taken: its maker may have died before this step.
    sync_folder(path.parent)
    return created


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
