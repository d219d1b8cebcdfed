"""`stream-app rebuild`: the same history, folded anew."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from stream_app.bootstrap import Rooms
from stream_app.cli.looking import rooms_of
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import print_fields, print_json
from stream_app.errors import Conflict, WrongArgument
from stream_app.worker.replaying import Comparison, Exclusion, refold

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app rebuild electricity --exclude source=kiosk-7")
def rebuild(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    exclude: Annotated[str | None, typer.Option(help="Leave rows out: source=NAME.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Fold the model's history into a new state and report how it differs from the learned one."""
    exclusion = _exclusion(exclude)
    rooms = rooms_of(load(config, overrides), model)
    show(compare(rooms, rooms, model, exclusion), as_json=as_json)


def _exclusion(text: str | None) -> Exclusion | None:
    try:
        return None if text is None else Exclusion.parse(text)
    except Conflict as error:
        raise WrongArgument(str(error)) from error


def compare(rooms: Rooms, other: Rooms, model: str, exclusion: Exclusion | None) -> Comparison:
    """Fold the history of `rooms` with the settings of `other` beside their own, showing progress."""
    newest = rooms.stores.log.metrics(model, newest=1)
    total = int(newest[0]["seq"]) if newest else 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"folding {model}", total=total)
        return refold(
            rooms.stores,
            other.fold(model),
            rooms.fold(model),
            exclusion,
            lambda seq: progress.update(bar, completed=seq),
        )


def show(comparison: Comparison, *, as_json: bool) -> None:
    """Print how two states of one history differ."""
    if as_json:
        print_json(asdict(comparison))
        return
    print_fields({name: value for name, value in asdict(comparison).items() if name != "metrics"})
    print_fields({name: f"{before} -> {now}" for name, (before, now) in comparison.metrics.items()})


OtherConfig = Annotated[Path, typer.Option("--with", metavar="FILE", help="Settings file to try on the same history.")]
