"""`stream-app status`: where everything stands."""

from typing import Any

import typer

from stream_app.cli.looking import look, note_missing
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import moment, print_json, print_rows
from stream_app.storage.standing import standings

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app status --json")
def status(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Print each model's place in its log, its scores, what serves, and its newest retrain."""
    settings = load(config, overrides)
    rooms = look(settings)
    rows = [] if rooms is None else standings(rooms)
    print_json({"models": rows}) if as_json else print_rows([_for_people(row) for row in rows])
    note_missing(settings, rooms, [row["model"] for row in rows])


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    at = row["updated_at"]
    return {**row, "updated_at": None if at is None else moment(at)}
