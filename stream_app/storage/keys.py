"""The key of checkpoints: who does not hold it cannot make a file that we would unpickle."""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from stream_app.errors import Misconfigured
from stream_app.storage.durable import create_file, make_folder

KEY_BYTES: Final = 32


def checkpoint_key(root: Path, given: str | None = None) -> bytes:
    """Return the key in hex that was given, or that of `<root>/keys/checkpoint.key`, which the first caller makes.

    Two first runs at once agree on one key. Raises Misconfigured for a key that is no 32 bytes in hex, and for
    a key file that others may read: whoever reads it can forge checkpoints.
    """
    if given is not None:
        return _parse(given, "storage.checkpoint_key")
    folder = root / "keys"
    make_folder(folder)
    path = folder / "checkpoint.key"
    if not path.exists():
        create_file(path, secrets.token_hex(KEY_BYTES).encode())  # False: another first run was faster, its key is ours
    return _parse(_read_private(path), str(path))


def _parse(text: str, origin: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError as error:
        raise Misconfigured(f"{origin}: not in hex, expected {2 * KEY_BYTES} hex digits") from error
    if len(key) != KEY_BYTES:
        raise Misconfigured(f"{origin}: {len(key)} bytes, expected {KEY_BYTES}")
    return key


def _read_private(path: Path) -> str:
    # Checked on the open file: a check by name could look at another file than the one that is read.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="ascii", errors="replace") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise Misconfigured(f"{path}: mode {mode:04o}, expected 0600: others could read the checkpoint key")
        return file.read(1000)
