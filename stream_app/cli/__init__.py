"""The command line: every command, no logic. Data goes to standard output, everything else to standard error.

A command lives in the module that `commands.COMMANDS` names for it; it reads the settings with `options.settings`,
hands them to the room that does the work, and prints what comes back with `output`.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, NoReturn

from stream_app.leaving import leave_at_once

#: Commands that run until they are told to stop.
SERVICES: Final = frozenset({"worker", "trainer", "serve", "up"})


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name (default: the process's own) and leave with its exit code."""
    chosen = list(sys.argv[1:] if arguments is None else arguments)
    if not SERVICES.isdisjoint(chosen[:1]):
        leave_at_once()
    # not before: importing it takes several times as long as Python takes to start
    run: Callable[[Sequence[str]], NoReturn] = import_module("stream_app.cli.entry").main
    run(chosen)
