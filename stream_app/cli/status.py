"""`stream-app status`: where everything stands."""

from typing import Any

import typer

from stream_app.bootstrap import Rooms
from stream_app.cli.looking import look, note_missing
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import print_json, print_rows

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app status --json")
def status(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Print each model's place in its log, its scores, what serves, and its newest retrain."""
    settings = load(config, overrides)
    rooms = look(settings)
    rows = [] if rooms is None else [_standing(rooms, dict(row)) for row in rooms.registry.models()]
    print_json({"models": rows}) if as_json else print_rows(rows)
    note_missing(settings, rooms, [row["model"] for row in rows])


def _standing(rooms: Rooms, row: dict[str, Any]) -> dict[str, Any]:
    name = str(row["name"])
    newest = rooms.log.metrics(name, newest=1)
    jobs = rooms.jobs.history(name, limit=1)
    scores = newest[0]["prequential"] if newest else {}
    return {
        "model": name,
        "windows": row["seq"],
        "learned": newest[0]["learned"] if newest else 0,
        "champion": row["champion"],
        "promotion_seq": row["promotion_seq"],
        "score": scores.get("accuracy", scores.get("mae")),
        "rolling": scores.get("rolling_accuracy", scores.get("rolling_mae")),
        "drifts": newest[0]["drifts"] if newest else 0,
        "retrain": f"{jobs[0].status.value}: {jobs[0].reason}" if jobs else "none yet",
    }
