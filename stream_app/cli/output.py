"""What commands print: data on standard output, as JSON or for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE: Final = 10_000


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever orjson can write
    """Print one JSON document."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


def print_rows(rows: Sequence[Mapping[str, object]]) -> None:
    """Print mappings with the same keys as a table; nothing for no rows."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        # as text: a reason or a key with brackets is no markup of ours
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    console = Console()
    # a pipe has no width: a cut cell would be lost to whoever reads it
    Console(width=console.width if console.is_terminal else _WIDE).print(table)


def print_fields(fields: Mapping[str, object], indent: str = "") -> None:
    """Print one `name: value` a line; the fields of a field stand indented below it."""
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            typer.echo(f"{indent}{name}:")
            print_fields(value, indent + "  ")
        else:
            typer.echo(f"{indent}{name}: {_told(value)}")


def moment(at: float) -> str:
    """Return a time in seconds since the epoch as people read it, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == {} else str(value)


def note(text: str) -> None:
    """Tell people something that is no data."""
    typer.echo(text, err=True)
