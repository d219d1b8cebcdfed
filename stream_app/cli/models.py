"""`stream-app models`: what serves, what could, and asking for another."""

import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from stream_app.bootstrap import Rooms
from stream_app.cli.looking import look, note_missing, rooms_of
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import moment, note, print_json, print_rows
from stream_app.core.fold import ONLINE
from stream_app.errors import Conflict, Outage
from stream_app.storage.asking import ask_for
from stream_app.storage.model_export import export_model
from stream_app.storage.standing import described
from stream_app.values import ControlEntry, Version

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List models and versions; promote, roll back, export."
)
Model = Annotated[str, typer.Argument(help="Name of the model.")]
#: How long a request may wait for the model's worker.
ANSWER_S: Final = 30.0


@app.command("list", epilog="Example: stream-app models list --json")
def list_(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """List the models that have a log, and what serves."""
    settings = load(config, overrides)
    rooms = look(settings)
    rows = [] if rooms is None else [dict(row) for row in rooms.registry.models()]
    if as_json:
        print_json(rows)
    else:
        print_rows([{**row, "created_at": moment(row["created_at"])} for row in rows])
    note_missing(settings, rooms, [row["name"] for row in rows])


@app.command(epilog="Example: stream-app models show electricity")
def show(model: Model, config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Show a model's versions, newest first, with their lineage."""
    registry = rooms_of(load(config, overrides), model).registry
    champion, promotion_seq = registry.champion(model)
    rows = [_described(version, champion) for version in registry.versions(model)]
    if as_json:
        print_json({"model": model, "champion": champion, "promotion_seq": promotion_seq, "versions": rows})
        return
    print_rows([_in_short(row) for row in rows])


@app.command(epilog="Example: stream-app models promote electricity 3")
def promote(
    model: Model,
    version: Annotated[int, typer.Argument(help="Number of the version; 1 is the online learner.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Ask the model's worker to serve this version now; waits for its answer.

    Without a worker the request stays, and the next worker that owns the model applies it.

    Of the candidates of a retrain only the one that passed the gate was stored: a rejected version cannot serve.
    """
    _ask(rooms_of(load(config, overrides), model), model, "promote", version, as_json=as_json)


@app.command(epilog="Example: stream-app models rollback electricity")
def rollback(
    model: Model,
    to: Annotated[int | None, typer.Option(help="Version to go back to; default: the one that served before.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Ask the model's worker to serve an earlier version again; waits for its answer.

    Without --to that is the version that served before the present one, so that rolling back twice ends where it began.
    """
    rooms = rooms_of(load(config, overrides), model)
    _ask(rooms, model, "rollback", to, as_json=as_json)


@app.command(epilog="Example: stream-app models export electricity exported-model")
def export(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist yet.")],
    version: Annotated[int | None, typer.Option(help="Number of the version; default: what serves now.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write a verified version to a plain folder: model.joblib, manifest.json, schema.json, metrics.json."""
    rooms = rooms_of(load(config, overrides), model)
    exported = export_model(rooms.stores, model, version, folder, rooms.settings.storage.trusted_types)
    if as_json:
        print_json({**exported, "folder": str(folder)})
    note(f"Wrote version {exported['version']} of {model}, {exported['algorithm']}, to {folder}.")


def _ask(rooms: Rooms, model: str, kind: Literal["promote", "rollback"], version: int | None, *, as_json: bool) -> None:
    asked = ask_for(rooms.stores, model, kind, version, by=f"cli:{rooms.name}")
    entry, version = _answer(rooms, asked.request), asked.version
    window = rooms.control.answered_in(asked.request)
    result = {"model": model, "version": version, "accepted": entry.accepted, "reason": entry.reason, "window": window}
    if as_json:
        print_json(result)
    if not entry.accepted:
        raise Conflict(f"{model}: {entry.reason}")
    note(f"{model}: version {version} serves from window {window} on." * (not as_json))


def _answer(rooms: Rooms, request: int) -> ControlEntry:
    note(f"Asked the model's worker; waiting for its answer, up to {ANSWER_S:g} s.")
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        entry = rooms.control.answer(request)
        if entry is not None:
            return entry
        time.sleep(0.1)
    raise Outage(
        f"no worker answered within {ANSWER_S:g} s: request {request} waits, "
        "and is applied when a worker that owns the model starts"
    )


def _described(version: Version, champion: int) -> dict[str, Any]:
    shown = described(version, champion)
    del shown["created_at"]
    trigger = "" if version.number == ONLINE else version.trigger
    return {**shown, "trigger": trigger, "rows_digest": version.rows_digest[:12]}


def _in_short(row: dict[str, Any]) -> dict[str, Any]:
    """Return what fits into a line: of all scores the one that the gate compared."""
    metrics, sha256 = row["metrics"], row["sha256"]
    score = metrics.get(metrics.get("metric"))
    compared = f"{metrics['metric']} {score:.4g}" if isinstance(score, float) else None
    shown = {name: value for name, value in row.items() if name not in {"metrics", "sha256"}}
    return {**shown, "score": compared, "reason": metrics.get("reason"), "sha256": sha256 and sha256[:12]}
