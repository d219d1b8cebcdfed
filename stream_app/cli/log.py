"""`stream-app log`: the window log, for people and for other engines."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from stream_app.bootstrap import Rooms
from stream_app.cli.looking import rooms_of
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import note, print_fields, print_json, print_rows
from stream_app.exits import CHECK_FAILED
from stream_app.storage.export import export as export_rows
from stream_app.worker.audit import audit, elsewhere

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at, prove or export the window log.")
Model = Annotated[str, typer.Argument(help="Name of the model.")]


@app.command(epilog="Example: stream-app log files electricity --json")
def files(model: Model, config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """List the Parquet files that hold the model's rows, and how to read them."""
    rooms = rooms_of(load(config, overrides), model)
    found = [{**asdict(file), "path": str(rooms.root.absolute() / file.path)} for file in rooms.log.files(model)]
    paths = [file["path"] for file in found]
    lines = {"pandas": f"pandas.read_parquet({paths})", "duckdb": f"FROM read_parquet({paths})"}
    if as_json:
        print_json({"model": model, "files": found, **lines})
        return
    print_rows(found)
    for engine, line in lines.items():
        note(f"{engine}: {line}" if len(paths) <= 1 else f"{engine}: the list of these paths, e.g. {line[:60]}…")


@app.command(epilog="Example: stream-app log verify electricity --json")
def verify(model: Model, config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Fold the whole log anew and prove that it gives the state that was learned; exit code 3 if not.

    What was sent to all models is the sum of their "counts", plus "dead_lettered" of "elsewhere": letters that belong
    to no model's log, by topic and partition. What was "forwarded" from there is among the counts of its model.
    """
    rooms = rooms_of(load(config, overrides), model)
    newest = rooms.log.metrics(model, newest=1)
    total = int(newest[0]["seq"]) if newest else 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"folding {model}", total=total)
        found = audit(rooms.stores, rooms.fold(model), lambda seq: progress.update(bar, completed=seq))
    result = {"ok": found.ok, **asdict(found)}
    if as_json:
        print_json(result)
    else:
        print_fields({name: value for name, value in result.items() if name != "problems"})
    for problem in found.problems:
        note(problem)
    if found.ok and found.unfinished:
        note(f"start a worker to finish window {found.unfinished[0]}: it is committed, its effects are not yet stored")
    if not found.ok:
        raise typer.Exit(CHECK_FAILED)


@app.command(epilog="Example: stream-app log export electricity ./electricity-log --format delta")
def export(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist yet.")],
    format_: Annotated[Literal["parquet", "delta"], typer.Option("--format", help="What to write.")] = "parquet",
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the model's rows to a plain folder of Parquet files, or to a Delta table."""
    rows = export_rows(rooms_of(load(config, overrides), model).log, model, folder, format_)
    if as_json:
        print_json({"model": model, "folder": str(folder), "format": format_, "rows": rows})
    note(f"Wrote {rows:,} rows of {model} to {folder}.")


@app.command(epilog="Example: stream-app log stats electricity")
def stats(model: Model, config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Print what the log holds and where it stands; "elsewhere" counts what no model's log holds, by partition.

    Positions are those in the topic that is there now: one that was deleted and made anew begins again at 0.
    """
    rooms = rooms_of(load(config, overrides), model)
    log = rooms.log
    newest = log.metrics(model, newest=1)
    seq = int(newest[0]["seq"]) if newest else 0
    row_count, digest = log.rows_digest(model, through=seq)
    result = {
        "model": model,
        "windows": seq,
        "rows": row_count,
        "rows_digest": digest,
        "learned": newest[0]["learned"] if newest else 0,
        "positions": _positions(rooms, model),
        "elsewhere": elsewhere(rooms.partitions),
        "files": len(log.files(model)),
    }
    print_json(result) if as_json else print_fields(result)


def _positions(rooms: Rooms, model: str) -> dict[str, int]:
    """Return the next offset of each partition, in the incarnation of its topic that is read now."""
    positions = rooms.log.positions(model)
    now = {topic: rooms.partitions.incarnation(topic) for topic in {p.topic for p in positions}}
    current = {p: at for p, at in positions.items() if p.incarnation == now[p.topic]}
    return {f"{p.topic}[{p.number}]": at for p, at in sorted(current.items())}
