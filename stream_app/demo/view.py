"""The live picture of the demo in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from stream_app.values import Task

BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 50
EVENTS_SHOWN: Final = 9
#: How each kind of event is drawn: its mark below the curves, and its style. Drifts come by the dozen: they have
#: marks and a number, the list is for the others.
MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "drift": ("▴", "yellow"),
    "reload": ("↻", "green"),
    "retrain": ("●", "magenta"),
    "kill": ("✖", "bold red"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Which score is drawn, and on which scale."""

    #: its name among the metrics
    score: str
    #: its name for people
    title: str
    #: bottom of the scale: below is no news
    low: float
    #: top of the scale, None: the largest value
    high: float | None
    #: how Python formats a value
    form: str

    def top(self, values: Iterable[float | None]) -> float:
        """Return the top of the scale on which these values are drawn."""
        if self.high is not None:
            return self.high
        return max((v for v in values if v is not None), default=0.0) or 1.0


def measure_of(task: Task) -> Measure:
    """Return what is drawn for a task."""
    if task is Task.REGRESSION:
        return Measure(score="mae", title="mean absolute error", low=0.0, high=None, form=".3f")
    # of two classes a coin names half of them
    low = 0.4 if task is Task.BINARY else 0.0
    return Measure(score="accuracy", title="accuracy", low=low, high=1.0, form=".1%")


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

    example: str
    measure: Measure
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
    points = _thinned(picture.points)
    served = [p.served for p in points]
    no_change = [p.no_change for p in points]
    curves = Table.grid(padding=(0, 1))
    top = picture.measure.top([*served, *no_change])
    for name, values in ((f"served {picture.measure.title}", served), ("no-change baseline", no_change)):
        curves.add_row(name, _sparkline(values, picture.measure.low, top), _newest(values, picture.measure.form))
    curves.add_row("", _marks(picture, points), "")
    facts = Table.grid(padding=(0, 2))
    for name, value in picture.facts.items():
        facts.add_row(Text(name, style="dim"), value)
    legend = "  ".join(f"{mark} {kind}" for kind, (mark, _) in MARKS.items())
    about = f"rolling over 1,000 rows; every label comes {picture.label_delay} records after its prediction, for both"
    below = (Text(legend, style="dim"), Text(about, style="dim"), Text(), facts, Text(), _events(picture))
    return Panel(Group(bar, Text(), curves, *below), title="stream_app demo")


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Return at most WIDTH points spread over the whole run, the newest among them."""
    if len(points) <= WIDTH:
        return points
    return [points[(i + 1) * len(points) // WIDTH - 1] for i in range(WIDTH)]


def _sparkline(values: Sequence[float | None], low: float, top: float) -> Text:
    steps = [" " if v is None else BARS[max(0, min(7, int((v - low) / (top - low) * 8)))] for v in values]
    return Text("".join(steps).ljust(WIDTH), style="cyan")


def _newest(values: Sequence[float | None], form: str) -> str:
    newest = next((v for v in reversed(values) if v is not None), None)
    return "" if newest is None else format(newest, form)


def _marks(picture: Picture, points: Sequence[Point]) -> Text:
    """Return what happened, below the points; of several events at one point the rarest is drawn."""
    drawn = [(" ", "")] * WIDTH
    order = list(MARKS)
    for at_s, kind, _ in sorted(picture.events, key=lambda event: order.index(event[1])):
        place = next((i for i, point in enumerate(points) if point.at_s >= at_s), None)
        if place is not None:
            drawn[place] = MARKS[kind]
    return Text.assemble(*drawn)


def _events(picture: Picture) -> Text:
    lines = Text()
    for at_s, kind, text in [event for event in picture.events if event[1] != "drift"][-EVENTS_SHOWN:]:
        lines.append(f"{at_s:6.1f} s  ", style="dim")
        lines.append(f"{kind:8}", style=MARKS[kind][1])
        lines.append(f"{text}\n")
    return lines
