"""`stream-app worker`."""

import typer

from stream_app.cli.options import ConfigFile, Overrides, load
from stream_app.processes import run_worker

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app worker --config stream_app.toml")
def worker(config: ConfigFile = None, overrides: Overrides = None) -> None:
    """Learn: take records in from Kafka, commit windows, fold, publish. Ends cleanly on SIGTERM."""
    raise typer.Exit(run_worker(load(config, overrides)))
