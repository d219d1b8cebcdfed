"""The command line: every command, no logic. Data goes to standard output, everything else to standard error.

A command lives in the module that `commands.COMMANDS` names for it; it reads the settings with `options.settings`,
hands them to the room that does the work, and prints what comes back with `output`.
"""

from stream_app.cli.entry import main

__all__ = ["main"]
