"""`stream-app keys`: who may use the HTTP API."""

import getpass
import re
import time
from typing import Annotated, Any, Final

import typer

from stream_app.bootstrap import Rooms
from stream_app.cli.looking import look
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import moment, note, print_fields, print_json, print_rows
from stream_app.errors import NotFound
from stream_app.serving.doors import Scope
from stream_app.serving_ports import ApiKey, Deed

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Create, list and revoke the keys of the HTTP API.")

_SECONDS: Final = {"h": 3_600, "d": 86_400}
_LONGEST_NAME: Final = 100


@app.command(epilog="Example: stream-app keys create --name page --scopes predict,feedback --expires 90d")
def create(
    name: Annotated[str, typer.Option(help="Who will use it, for the list and the audit log.")],
    scopes: Annotated[str, typer.Option(help=f"Some of {', '.join(Scope)}, with commas between.")],
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, e.g. 90d or 12h; default: for ever.")
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it, once: only its digest is stored.

    From the first key on, every request needs one.
    """
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise typer.BadParameter(f"expected 1 to {_LONGEST_NAME} characters", param_hint="--name")
    wanted, now = _scopes(scopes), time.time()
    expires_at = None if expires is None else now + _seconds(expires)
    rooms = Rooms(load(config, overrides))
    key, made = rooms.api_keys.create(name, wanted, now=now, expires_at=expires_at)
    _note(rooms, "create key", made.id, name=name, scopes=sorted(wanted))
    if as_json:
        print_json({"key": key, **_described(made)})
    else:
        print_fields({"key": key, **_described(made)})
    note("Keep it now: it is shown this once.")


@app.command("list", epilog="Example: stream-app keys list --json")
def list_(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """List all keys, newest first; their secrets are nowhere."""
    rooms = look(load(config, overrides))
    rows = [] if rooms is None else [_described(key) for key in rooms.api_keys.all()]
    print_json(rows) if as_json else print_rows(rows)


@app.command(epilog="Example: stream-app keys revoke 1f2e3d4c5b6a7988")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `keys list` shows it.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Refuse a key from now on; a server that runs has heard of it after five seconds."""
    rooms = look(load(config, overrides))
    if rooms is None:
        raise NotFound(f"there is no API key {key_id!r}: there is no state yet")
    rooms.api_keys.revoke(key_id, now=time.time())
    _note(rooms, "revoke key", key_id)
    if as_json:
        print_json(next(_described(key) for key in rooms.api_keys.all() if key.id == key_id))
    note(f"Revoked {key_id}.")


def _scopes(text: str) -> frozenset[Scope]:
    try:
        wanted = frozenset(Scope(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r}: expected some of {', '.join(Scope)}, with commas between", param_hint="--scopes"
        ) from error
    return wanted


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([1-9]\d{0,4})([hd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r}: expected hours or days, e.g. 12h or 90d", param_hint="--expires")
    return float(found[1]) * _SECONDS[found[2]]


def _note(rooms: Rooms, action: str, key_id: str, **details: Any) -> None:  # noqa: ANN401 - JSON
    deed = Deed(
        at=time.time(),
        actor=f"command line {getpass.getuser()}",
        action=action,
        model=None,
        details={"key": key_id, **details},
    )
    rooms.audit.note(deed)


def _described(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
    }


def _time(at: float | None) -> str | None:
    return None if at is None else moment(at)
