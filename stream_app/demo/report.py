"""The demo's report: one HTML file without scripts or outside references, its curves drawn as SVG."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Final

from stream_app.demo.view import Picture, Point

WIDTH: Final = 960
HEIGHT: Final = 280
MARGIN: Final = 44
STYLE: Final = """
:root { color-scheme: light dark; --line: #888; --served: #0b7285; --base: #e8590c; --online: #868e96; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; } text { font-size: 12px; fill: currentColor; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; }
.served { stroke: var(--served); } .base { stroke: var(--base); } .online { stroke: var(--online); }
path { fill: none; stroke-width: 2; } .kill, .retrain, .reload { stroke: var(--line); stroke-dasharray: 3 3; }
.kill { stroke: #c92a2a; } .drift { stroke: #e67700; } pre { overflow-x: auto; }
"""
#: Drifts come by the dozen: a tick each, without a word.
MARKED: Final = ("kill", "reload", "retrain", "drift")
TICK: Final = 8


def write(path: Path, picture: Picture, summary: Mapping[str, Any], settings: str) -> None:
    """Write the report of a finished demo; `settings` is the text of its settings file."""
    measure = picture.measure
    scores = _chart(
        picture,
        {"served": lambda p: p.served, "base": lambda p: p.no_change, "online": lambda p: p.online},
        low=measure.low,
        high=measure.top(value for p in picture.points for value in (p.served, p.no_change, p.online)),
        unit=lambda v: format(v, measure.form),
    )
    stalest = max((p.freshness_s for p in picture.points if p.freshness_s is not None), default=1.0)
    freshness = _chart(
        picture, {"served": lambda p: p.freshness_s}, low=0.0, high=max(stalest, 1.0), unit=lambda v: f"{v:.1f} s"
    )
    path.write_text(_page(picture, summary, settings, scores, freshness), encoding="utf-8")


def _page(picture: Picture, summary: Mapping[str, Any], settings: str, scores: str, freshness: str) -> str:
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in summary.items())
    events = "".join(
        f"<tr><td>{at:.1f} s</td><td>{escape(kind)}</td><td>{escape(text)}</td></tr>"
        for at, kind, text in picture.events
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>stream_app demo</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>
<h1>stream_app demo</h1>
<p>Real data (the example {escape(picture.example)}), streamed once. Every record was predicted before its label was
sent; the label followed {picture.label_delay} records later. The baseline answers with the newest label known at that
moment.</p>
<h2>{picture.measure.title.capitalize()} over the newest 1,000 rows</h2>
<p><span style="color:var(--served)">served</span>, <span style="color:var(--base)">no-change baseline</span>,
<span style="color:var(--online)">online learner, just before learning</span></p>{scores}
<h2>Freshness: age of the newest window that the served model has learned</h2>{freshness}
<h2>Summary</h2><table>{rows}</table>
<h2>What happened</h2><table>{events}</table>
<h2>Settings</h2><pre>{escape(settings)}</pre>
<p>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, stream-app {version("stream-app")}, Python {python_version()}</p>
</body></html>
"""


def _chart(
    picture: Picture,
    curves: Mapping[str, Callable[[Point], float | None]],
    *,
    low: float,
    high: float,
    unit: Callable[[float], str],
) -> str:
    end = max((p.at_s for p in picture.points), default=1.0) or 1.0

    def x(at_s: float) -> float:
        return MARGIN + at_s / end * (WIDTH - 2 * MARGIN)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    drawn = [_axis(x, y, low, high, end, unit), *(_mark(x, at, kind, text) for at, kind, text in picture.events)]
    for name, value in curves.items():
        places = [(x(p.at_s), y(v)) for p in picture.points if (v := value(p)) is not None]
        drawn.append(_path(name, places))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}</svg>'


def _axis(
    x: Callable[[float], float],
    y: Callable[[float], float],
    low: float,
    high: float,
    end: float,
    unit: Callable[[float], str],
) -> str:
    ticks = [low + (high - low) * i / 4 for i in range(5)]
    lines = "".join(
        f'<text x="0" y="{y(t):.0f}">{unit(t)}</text><line x1="{MARGIN}" x2="{WIDTH - MARGIN}" '
        f'y1="{y(t):.0f}" y2="{y(t):.0f}" stroke="currentColor" opacity=".15"/>'
        for t in ticks
    )
    times = "".join(
        f'<text x="{x(end * i / 4):.0f}" y="{HEIGHT - 12}" text-anchor="middle">{end * i / 4:.0f} s</text>'
        for i in range(5)
    )
    return lines + times


def _mark(x: Callable[[float], float], at_s: float, kind: str, text: str) -> str:
    if kind not in MARKED:
        return ""
    place, hint = f"{x(at_s):.1f}", f"<title>{escape(f'{at_s:.1f} s: {kind}: {text}')}</title>"
    if kind == "drift":
        top, word = HEIGHT - MARGIN - TICK, ""
    else:
        # a line of words for each kind, so that they do not cover each other
        height = MARGIN - 4 - 12 * MARKED.index(kind)
        top, word = MARGIN, f'<text x="{place}" y="{height}" text-anchor="middle">{escape(kind)}{hint}</text>'
    line = f'<line class="{kind}" x1="{place}" x2="{place}" y1="{top}" y2="{HEIGHT - MARGIN}">{hint}</line>'
    return line + word


def _path(name: str, places: Sequence[tuple[float, float]]) -> str:
    steps = " L ".join(f"{px:.1f} {py:.1f}" for px, py in places)
    return f'<path class="{name}" d="M {steps}"/>' if places else ""
