"""`stream-app retraining`: automatic retraining on and off, by hand, and what became of it."""

from typing import Annotated, Any, Final

import typer

from stream_app import background
from stream_app.bootstrap import Rooms
from stream_app.cli.looking import look
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load, model_of
from stream_app.cli.output import note, print_fields, print_json, print_rows
from stream_app.job_ports import RETRAINING
from stream_app.serving.retrain_status import RetrainStatus
from stream_app.settings import Settings
from stream_app.trainer.scheduler import NAME as SCHEDULER

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Turn automatic retraining on and off; see what it did."
)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
OfModel = Annotated[str | None, typer.Option("--model", help="Only this model's.")]
#: What people compare in a table; the rest is in --json.
_SHORT: Final = ("model_name", "trigger_type", "trigger_time", "status", "duration", "description")


@app.command(epilog="Example: stream-app retraining start --config stream_app.toml")
def start(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Turn automatic retraining on; where nothing runs, start `stream-app up` in the background."""
    settings = load(config, overrides)
    rooms = Rooms(settings)
    rooms.stores.switches.turn(RETRAINING, on=True, by=_by(rooms), now=rooms.clock())
    process, is_new = background.running(settings.storage.root), False
    if process is None and not _has_trainer(rooms):
        arguments = [] if config is None else ["--config", str(config)]
        for override in overrides or []:
            arguments += ["--set", override]
        process, is_new = background.start(settings.storage.root, arguments), True
    _tell({"is_running": True, "process": process, "started": is_new}, as_json=as_json)


@app.command(epilog="Example: stream-app retraining stop")
def stop(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Turn automatic retraining off, and end the `stream-app up` that `start` began."""
    settings = load(config, overrides)
    rooms = Rooms(settings)
    rooms.stores.switches.turn(RETRAINING, on=False, by=_by(rooms), now=rooms.clock())
    ended = background.stop(settings.storage.root)
    _tell({"is_running": False, "ended": ended}, as_json=as_json)


@app.command(epilog="Example: stream-app retraining status --json")
def status(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Print whether automatic retraining is on, and how far each model's next retrain is."""
    settings = load(config, overrides)
    told = _status(settings)
    told |= {"process": background.running(settings.storage.root)}
    print_json(told) if as_json else print_fields(told)


@app.command(epilog="Example: stream-app retraining history --model iris --limit 10")
def history(
    model: OfModel = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List retrains, newest first."""
    settings = load(config, overrides)
    if model is not None:
        model_of(settings, model)
    rooms = look(settings)
    events = [] if rooms is None else _asked(rooms).history(model, limit=limit)
    print_json({"history": events}) if as_json else print_rows([{k: e[k] for k in _SHORT} for e in events])
    if not events:
        note("No retrains yet.")


@app.command(epilog="Example: stream-app retraining trigger iris")
def trigger(model: Name, config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Ask for a full retrain now, whatever the triggers say; a trainer carries it out."""
    settings = load(config, overrides)
    model_of(settings, model)
    rooms = Rooms(settings)
    job, is_new = rooms.jobs.request(model, "manual", now=rooms.clock())
    print_json({"model_name": model, "job": job.id, "status": job.status.value, "is_new": is_new}) if as_json else note(
        f"{model}: retrain {job.id} is {job.status.value}."
    )


@app.command(epilog="Example: stream-app retraining config --model iris")
def config(
    model: OfModel = None, config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False
) -> None:
    """Print when and how models retrain; `--set models.NAME.retrain.KEY=VALUE` tries another value."""
    settings = load(config, overrides)
    names = [model] if model is not None else list(settings.models)
    shown = {name: model_of(settings, name).retrain.model_dump(mode="json") for name in names}
    print_json(shown) if as_json else print_fields(shown)


def _has_trainer(rooms: Rooms) -> bool:
    """Return whether a trainer looks at the triggers somewhere: it holds their lease."""
    ours = _by(rooms)
    is_free = rooms.stores.leases.acquire(SCHEDULER, holder=ours, now=rooms.clock(), lease_s=0)
    if is_free:
        rooms.stores.leases.release(SCHEDULER, holder=ours)
    return not is_free


def _by(rooms: Rooms) -> str:
    return f"cli:{rooms.name}"


def _asked(rooms: Rooms) -> RetrainStatus:
    return RetrainStatus(rooms.stores, rooms.models, clock=rooms.clock)


def _status(settings: Settings) -> dict[str, Any]:
    rooms = look(settings)
    return {"is_running": True, "models": {}} if rooms is None else _asked(rooms).running()


def _tell(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    note("Automatic retraining is on." if result["is_running"] else "Automatic retraining is off.")
    if result.get("started"):
        note(f"Started `stream-app up` in the background, process {result['process']}.")
    if result.get("ended"):
        note("Ended the `stream-app up` in the background.")
