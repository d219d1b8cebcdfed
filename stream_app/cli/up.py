"""`stream-app up`."""

import typer

from stream_app.cli.options import ConfigFile, Overrides, load
from stream_app.cli.output import note
from stream_app.up import run_up

app = typer.Typer()


@app.command(epilog="Example: stream-app up --config stream_app.toml")
def up(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Run worker and trainer on this machine, supervised; over an embedded broker unless one is named."""
    arguments = ["--config", str(config)] if config else []
    for override in overrides or []:
        arguments += ["--set", override]
    raise typer.Exit(run_up(load(config, overrides), arguments, note))
