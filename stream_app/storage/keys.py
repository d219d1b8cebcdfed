"""The key of checkpoints: who does not hold it cannot make a file that we would unpickle."""

import logging
import secrets
from functools import partial
from pathlib import Path
from typing import Final

from stream_app.errors import Misconfigured
from stream_app.redaction import REDACTED
from stream_app.storage.checkpoints import FOLDER
from stream_app.storage.private_files import kept_secret

_log = logging.getLogger(__name__)
KEY_BYTES: Final = 32


def checkpoint_key(root: Path, given: str | None = None) -> bytes:
    """Return the key in hex that was given, or that of `<root>/keys/checkpoint.key`, which the first caller makes.

    Two first runs at once agree on one key. Raises Misconfigured for a key that is no 32 bytes in hex, and for
    a key file that others may read: whoever reads it can forge checkpoints. A key that is made where checkpoints are
    already is told in the log: none of them will verify.
    """
    if given is not None:
        return _parse(given, "storage.checkpoint_key")
    path = root / "keys" / "checkpoint.key"
    return _parse(kept_secret(path, partial(_new_key, root, path), what="the checkpoint key"), str(path))


def _new_key(root: Path, path: Path) -> bytes:
    if any((root / FOLDER).glob("*/*.ckpt")):
        _log.warning(
            "the checkpoint key %s is gone and a new one is made: checkpoints signed with the old one will be refused "
            "and set aside, and the logs folded from their start; stop and put the old key back first to keep them",
            path,
        )
    return secrets.token_hex(KEY_BYTES).encode()


def _parse(text: str, origin: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError as error:
        raise Misconfigured(f"{origin} = {REDACTED} (not in hex): expected {2 * KEY_BYTES} hex digits") from error
    if len(key) != KEY_BYTES:
        raise Misconfigured(f"{origin} = {REDACTED} ({2 * len(key)} digits): expected {2 * KEY_BYTES} hex digits")
    return key
