"""The live picture of the demo in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 72
EVENTS_SHOWN: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The scores at one moment."""

    #: seconds since the start
    at_s: float
    learned: int
    #: over the newest 1,000 rows; None before the first served prediction
    served: float | None
    no_change: float | None
    online: float | None
    #: seconds since the newest window that the served model has learned was closed
    freshness_s: float | None


@dataclass(slots=True)
class Picture:
    """Everything that the live view, the summary and the report show."""

    total: int
    label_delay: int
    predicted: int = 0
    points: list[Point] = field(default_factory=list)
    #: (seconds since the start, kind, text)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def note(self, at_s: float, kind: str, text: str) -> None:
        """Remember an event."""
        self.events.append((at_s, kind, text))


def progress_bar(total: int) -> Progress:
    """Return the bar that shows how much of the stream has been predicted."""
    columns = (TextColumn("stream"), BarColumn(bar_width=48), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns)
    bar.add_task("stream", total=total)
    return bar


def render(picture: Picture, bar: Progress) -> RenderableType:
    """Return the picture as rich draws it."""
    bar.update(bar.task_ids[0], completed=picture.predicted)
    served = [p.served for p in picture.points]
    no_change = [p.no_change for p in picture.points]
    curves = Table.grid(padding=(0, 1))
    curves.add_row("served accuracy", _sparkline(served), _percent(served))
    curves.add_row("no-change baseline", _sparkline(no_change), _percent(no_change))
    facts = Table.grid(padding=(0, 2))
    for name, value in picture.facts.items():
        facts.add_row(Text(name, style="dim"), value)
    about = f"rolling over 1,000 rows; every label comes {picture.label_delay} records after its prediction, for both"
    return Panel(
        Group(bar, Text(), curves, Text(about, style="dim"), Text(), facts, Text(), _events(picture)),
        title="stream_app demo",
    )


def _sparkline(values: Sequence[float | None]) -> Text:
    """Draw 40 % to 100 %: below is no news."""
    newest = values[-WIDTH:]
    steps = [" " if v is None else BARS[max(0, min(7, int((v - 0.4) / 0.6 * 8)))] for v in newest]
    return Text("".join(steps).ljust(WIDTH), style="cyan")


def _percent(values: Sequence[float | None]) -> str:
    newest = next((v for v in reversed(values) if v is not None), None)
    return "" if newest is None else f"{newest:.1%}"


def _events(picture: Picture) -> Text:
    styles = {"kill": "bold red", "drift": "yellow", "retrain": "magenta", "reload": "green"}
    lines = Text()
    for at_s, kind, text in picture.events[-EVENTS_SHOWN:]:
        lines.append(f"{at_s:6.1f} s  ", style="dim")
        lines.append(f"{kind:8}", style=styles.get(kind, ""))
        lines.append(f"{text}\n")
    return lines
