"""`stream-app demo`: the main job on real data, before your eyes."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from stream_app.cli.options import AsJson
from stream_app.cli.output import note, print_fields, print_json
from stream_app.demo.examples import PACKAGED, find
from stream_app.demo.running import Audience, Options, run
from stream_app.demo.view import Picture, progress_bar, render

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app demo --fast --json")
def demo(
    example: Annotated[str, typer.Option(help="What to stream: the name of one of the examples.")] = PACKAGED,
    *,
    fast: Annotated[
        bool, typer.Option("--fast", help="As fast as it goes, instead of at most 1,500 records a second.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running afterwards, until Ctrl-C.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep settings, state and logs here; default: nowhere.")] = None,
    report: Annotated[Path, typer.Option(help="HTML report to write.")] = Path("demo-report.html"),
    as_json: AsJson = False,
) -> None:
    """Stream real data, learn, retrain, kill the worker, recover, reload; then print what was proved."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        live: Live | None = None
        bar = None

        def show(picture: Picture) -> None:
            nonlocal live, bar
            if not console.is_terminal:
                return
            if live is None or bar is None:
                bar = progress_bar(picture.total)
                live = stack.enter_context(Live(console=console, refresh_per_second=5))
            live.update(render(picture, bar))

        def tell(result: Mapping[str, Any]) -> None:
            if live is not None:
                live.stop()
            print_json(result) if as_json else print_fields(result)

        options = Options(example=find(example), paced=not fast, report=report, folder=folder, keep=keep)
        run(options, Audience(show=show, say=note, tell=tell))
