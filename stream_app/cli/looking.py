"""Looking at the state that processes left: a command that only reads makes no folder, no database and no keys."""

from collections.abc import Sequence

from stream_app.bootstrap import Rooms
from stream_app.cli.output import note
from stream_app.errors import NotFound
from stream_app.settings import Settings
from stream_app.storage.database import is_there


def look(settings: Settings) -> Rooms | None:
    """Return what reads the state, None where there is none; raises Misconfigured, or Outage."""
    url = settings.storage.url
    there = is_there(None if url is None else url.get_secret_value(), settings.storage.root)
    return Rooms(settings) if there else None


def rooms_of(settings: Settings, model: str) -> Rooms:
    """Return what reads the state of this model; raises NotFound, which says which models there are."""
    rooms = look(settings)
    if rooms is None:
        raise NotFound(_nothing(settings))
    known = [row["name"] for row in rooms.registry.models()]
    if model not in known:
        raise NotFound(f"no model {model!r} has a log; expected one of: {', '.join(known) or 'none yet'}")
    return rooms


def note_missing(settings: Settings, rooms: Rooms | None, found: Sequence[str]) -> None:
    """Tell people that there is no state, and which models of the settings have none."""
    if rooms is None:
        note(f"Nothing yet: {_nothing(settings)}.")
    missing = [name for name in settings.models if name not in found]
    if missing:
        note(f"In the settings, without a log: {', '.join(missing)}.")


def _nothing(settings: Settings) -> str:
    place = "the database of storage.url" if settings.storage.url else str(settings.storage.root)
    return f"no state in {place} yet; start a worker, or set storage.root or storage.url to where one works"
