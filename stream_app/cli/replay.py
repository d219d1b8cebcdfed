"""`stream-app replay`: another configuration on the very same history."""

from typing import Annotated

import typer

from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.cli.looking import rooms_of
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.rebuild import OtherConfig, compare, show

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app replay electricity --with experiment.toml --json")
def replay(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    other: OtherConfig,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Backtest another settings file on the model's history, beside the present one; nothing is changed."""
    rooms, tried = rooms_of(load(config, overrides), model), Rooms(configuration.load(other, {}))
    show(compare(rooms, tried, model, None), as_json=as_json)
