"""`stream-app serve`."""

from typing import Annotated

import typer

from stream_app.cli.options import ConfigFile, Overrides, load
from stream_app.processes import run_serve

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app serve --port 8080")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; the same as serve.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0: any free one; as serve.port.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Answer over HTTP with the newest verified models. Ends cleanly on SIGTERM."""
    given = {"serve.host": host, "serve.port": port}
    chosen = [f"{key}={value}" for key, value in given.items() if value is not None]
    raise typer.Exit(run_serve(load(config, [*(overrides or []), *chosen])))
