"""Which module holds which command.

Only the module of the command that was called is imported: `stream-app version` must not wait for numba and Faust.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Final

import typer


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of them, that is not imported yet."""

    #: module below stream_app.cli whose `app` is the command
    module: str
    #: one line for `stream-app --help`
    summary: str

    def load(self) -> typer.Typer:
        """Import the module and return its Typer application; a single command in it is the command itself."""
        app: typer.Typer = import_module(f"stream_app.cli.{self.module}").app
        return app


#: By name, in the order of `stream-app --help`.
COMMANDS: Final = {
    "init": Command("starting", "Write a starter settings file from a data file."),
    "config": Command("config", "Show the settings in force, or check them."),
    "topics": Command("topics", "Create the topics, or list them."),
    "produce": Command("producing", "Send the rows of a file as labelled records."),
    "version": Command("version", "Print the version."),
}
