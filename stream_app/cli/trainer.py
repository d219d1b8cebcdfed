"""`stream-app trainer`."""

import typer

from stream_app.cli.options import ConfigFile, Overrides, load
from stream_app.processes import run_trainer

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app trainer --config stream_app.toml")
def trainer(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Retrain in full when a trigger fires, each time in a process of its own. Ends cleanly on SIGTERM."""
    raise typer.Exit(run_trainer(load(config, overrides)))
