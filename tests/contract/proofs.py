"""What the proofs over the worker share: feeding it, and looking at what became of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_app.settings import Settings
from stream_app.worker.audit import Audit, audit
from tests.contract.working import PLACE, Bench, bench, run_of, settings_of

#: Windows are closed by size alone, so that a slow machine cuts the stream as a fast one does.
WINDOW = {"max_rows": 50, "max_age_s": 3600, "checkpoint_windows": 3}


def steady(root: Path, **model: Any) -> Settings:  # noqa: ANN401 - any key of a model's section
    """Return settings of model `m` whose windows depend on nothing but their rows."""
    window = WINDOW | model.pop("window", {})
    return settings_of(root, **{"publish": {"every_s": None}, **model, "window": window})


async def feed(made: Bench, rows: Sequence[Mapping[str, Any] | bytes | None], *, offset: int = 0, run: int = 30) -> int:
    """Hand the records over, `run` at a time, and return the next offset."""
    for at in range(0, len(rows), run):
        await made.take(run_of(rows[at : at + run], offset=offset + at))
    return offset + len(rows)


async def settle(made: Bench) -> None:
    """Let the window that is carried end, as it would without anybody waiting; leave what is open."""
    for station in made.handler._stations.values():
        for owner in station.owners.values():
            await owner._settled()


async def learn(settings: Settings, rows: Sequence[Mapping[str, Any]], *, offset: int = 0) -> str:
    """Learn the records in a worker that then stops in good order, and return the probe hash."""
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await feed(made, rows, offset=offset)
        await made.handler.drain()
        return probe_hash(made)


def probe_hash(made: Bench) -> str:
    """Return the hash of the newest stored state."""
    return str(made.rooms.stores.log.metrics("m", newest=1)[0]["probe_hash"])


def live_hash(made: Bench) -> str:
    """Return the hash of the state in the worker's hands."""
    (owner,) = made.handler._stations[PLACE].owners.values()
    return owner.fold.probe_hash()


def proved(made: Bench) -> Audit:
    """Return what an audit of the whole log finds; it must find nothing wrong."""
    found = audit(made.rooms.stores, made.rooms.fold("m"), lambda _: None)
    assert found.ok, found.problems
    return found
