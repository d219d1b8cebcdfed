"""`stream-app produce`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from stream_app import feeding
from stream_app.cli.options import AsJson, ConfigFile, Overrides, argument, load, model_of
from stream_app.cli.output import note, print_json
from stream_app.errors import NotFound
from stream_app.inference import resolve
from stream_app.kafka import client, topics
from stream_app.kafka.producer import Producer
from stream_app.settings import KafkaSettings

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app produce electricity.csv.gz --model electricity --rate 1500")
def produce(  # noqa: PLR0913 - each is an option of the command
    file: Annotated[Path, typer.Argument(help="CSV, JSON lines or Parquet file, also with .gz.")],
    model: Annotated[str, typer.Option(help="Model that the records teach; their key.")],
    rate: Annotated[float | None, typer.Option(min=0.1, help="Records a second; default: as fast as possible.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Records at most; default: the whole file.")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic; default: ground-truth, as the settings name it.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    envelope: Annotated[
        bool, typer.Option("--envelope/--flat", help="Features and label apart, or side by side.")
    ] = True,
    event_ids: Annotated[bool, typer.Option("--event-ids", help="Number the rows: sent twice, learned once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the rows of a file as labelled records, and wait until the broker has them."""
    settings = load(config, overrides)
    feed = feeding.Feed(
        path=file,
        name=model,
        model=resolve(model_of(settings, model)),
        topic=topic or settings.kafka.topics.ground_truth,
        form=feeding.Form.ENVELOPE if envelope else feeding.Form.FLAT,
        numbered=event_ids,
    )
    with argument("FILE"):
        feeding.check(feed)
    check_topic(settings.kafka, feed.topic)
    with Producer(settings.kafka) as deliver, _bar(feed.topic) as show, argument("FILE"):
        done = feeding.send(feed, deliver, rate=rate, limit=limit, report=show)
    if as_json:
        print_json({"model": model, "topic": feed.topic, "sent": done.sent, "skipped": done.skipped})
    else:
        note(f"Sent {done.sent} records to {feed.topic}; {done.skipped} rows without a label were left out.")


def check_topic(settings: KafkaSettings, topic: str) -> None:
    """Say at once, not after the timeout of a delivery, that a topic or the broker is not there."""
    try:
        topics.partition_count(client.admin(settings), topic)
    except NotFound as error:
        raise NotFound(f"{error}; 'stream-app topics create' makes those of the settings") from error


@contextmanager
def _bar(topic: str) -> Iterator[Callable[[feeding.Progress], None]]:
    """Show how far it is on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"to {topic}", total=1.0)

        def show(progress: feeding.Progress) -> None:
            bar.update(task, completed=progress.share, description=f"{progress.sent} records to {topic}")

        yield show
