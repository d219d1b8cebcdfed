"""Secrets that are kept in a file of their own, which nobody but us may read."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stream_app.errors import Misconfigured
from stream_app.storage.durable import create_file, make_folder

#: Much more than any key of ours: a wrong mount must not be read to its end.
_MOST_BYTES: Final = 10_000


def kept_secret(path: Path, make: Callable[[], bytes], *, what: str) -> str:
    """Return the text of the file, which the first caller makes; two first callers at once agree on one.

    The file may be a link, since that is how orchestrators mount secrets; what counts is the file that it leads to.
    Raises Misconfigured, naming `what` it holds, for a file that others may read, and where none can be kept.
    """
    try:
        make_folder(path.parent)
        if not path.exists():
            create_file(path, make())  # False: another first caller was faster, its secret is ours
        return _read_private(path, what)
    except OSError as error:
        raise Misconfigured(f"{path.parent}: {what} cannot be kept there, expected our own folder: {error}") from error


def _read_private(path: Path, what: str) -> str:
    # Checked on the open file: a check by name could look at another file than the one that is read.
    with path.open(encoding="ascii", errors="replace") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise Misconfigured(f"{path}: mode {mode:04o}, expected 0600: others could read {what}")
        return file.read(_MOST_BYTES)
