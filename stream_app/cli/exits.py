"""Exit codes: the one table from errors to what a shell, systemd or Kubernetes sees."""

from collections.abc import Mapping
from typing import Final

from stream_app.errors import Fenced, Misconfigured, Outage, StreamAppError

RUNTIME_FAILURE: Final = 1
#: Wrong arguments; Typer's own.
USAGE: Final = 2
#: A check ran and what it checked is wrong.
CHECK_FAILED: Final = 3
FENCED: Final = 70
TEMPORARY: Final = 75
MISCONFIGURED: Final = 78
#: Ctrl-C; Typer's own.
INTERRUPTED: Final = 130

EXIT_CODES: Final[Mapping[type[StreamAppError], int]] = {
    Fenced: FENCED,
    Outage: TEMPORARY,
    Misconfigured: MISCONFIGURED,
}


def exit_code(error: StreamAppError) -> int:
    """Return the exit code for an error, by its nearest class in the table."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), RUNTIME_FAILURE)
