"""Exit codes: the one table from errors to what a shell, systemd or Kubernetes sees."""

from collections.abc import Mapping
from typing import Final

from stream_app.errors import Fenced, Misconfigured, Outage, StreamAppError, TooManyBadRecords, WrongArgument

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
    WrongArgument: USAGE,
    # it stays stopped until a setting is raised, so starting again is as useless as with a wrong one
    TooManyBadRecords: MISCONFIGURED,
}
#: Exits that starting again cannot mend: wrong usage, wrong settings, a halted partition.
HOPELESS: Final = frozenset({USAGE, MISCONFIGURED})


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error, by its nearest class in the table."""
    table: Mapping[type, int] = EXIT_CODES
    return next((table[kind] for kind in type(error).__mro__ if kind in table), RUNTIME_FAILURE)
