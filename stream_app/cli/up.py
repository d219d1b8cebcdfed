"""`stream-app up`."""

import typer

from stream_app import configuration
from stream_app.cli.options import ADDRESS_FILE, ConfigFile, Overrides, pairs
from stream_app.cli.output import note
from stream_app.up import run_up

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app up --config stream_app.toml")
def up(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Run worker, trainer and server on this machine, supervised; over an embedded broker unless one is named."""
    arguments = ["--config", str(config)] if config else []
    for override in overrides or []:
        arguments += ["--set", override]
    settings = configuration.load(config, pairs(overrides))
    raise typer.Exit(run_up(settings, arguments, settings.storage.root / ADDRESS_FILE, note))
