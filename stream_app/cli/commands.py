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
    "collect": Command("collect", "Send the new rows of a database as labelled records."),
    "worker": Command("worker", "Learn: take records in, commit windows, fold, publish."),
    "trainer": Command("trainer", "Retrain in full when a trigger fires."),
    "serve": Command("serve", "Answer over HTTP: predict, give feedback, retrain."),
    "up": Command("up", "Run worker, trainer and server on this machine."),
    "demo": Command("demo", "Watch the main job on real data."),
    "status": Command("status", "Print where everything stands."),
    "models": Command("models", "List models and versions; promote, roll back, export."),
    "log": Command("log", "Look at, prove or export the window log."),
    "retraining": Command("retraining", "Turn automatic retraining on and off; see what it did."),
    "keys": Command("keys", "Create, list and revoke the keys of the HTTP API."),
    "rebuild": Command("rebuild", "Fold a model's history anew and compare."),
    "replay": Command("replay", "Try other settings on a model's history."),
    "dlq": Command("dlq", "List dead letters, show one, or send them back."),
    "version": Command("version", "Print the version."),
}
