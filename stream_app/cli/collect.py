"""`stream-app collect`."""

from typing import Annotated

import typer

from stream_app import collecting
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load, model_of
from stream_app.cli.output import note, print_json
from stream_app.cli.producing import check_topic
from stream_app.errors import WrongArgument
from stream_app.inference import resolve
from stream_app.kafka.producer import Producer

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: stream-app collect --model housing --url sqlite:///sales.db"
    ' --query "SELECT * FROM new_housing_data WHERE processed = 0"'
    ' --mark "UPDATE new_housing_data SET processed = 1 WHERE id = :id"'
    " --map MedInc=median_income --map target=actual_price"
)
def collect(  # noqa: PLR0913 - each is an option of the command
    *,
    url: Annotated[
        str, typer.Option(envvar="COLLECT_URL", help="SQLAlchemy URL; in the variable nobody sees its password.")
    ],
    query: Annotated[str, typer.Option(help="SELECT of the rows that are new.")],
    mark: Annotated[str, typer.Option(help="Statement that marks one row; its :names are columns of the query.")],
    model: Annotated[str, typer.Option(help="Model that the rows teach; their key.")],
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field, or of 'target'; may be repeated."),
    ] = None,
    source: Annotated[str, typer.Option(help="Source of the records, and the first part of their ids.")] = "collect",
    batch: Annotated[int, typer.Option(min=1, help="Rows sent, and then marked, at a time.")] = 1_000,
    topic: Annotated[str | None, typer.Option(help="Topic; default: ground-truth, as the settings name it.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Send the new rows of a database as labelled records, and mark those that the broker has."""
    settings = load(config, overrides)
    wanted = collecting.Collection(
        url=url,
        query=query,
        mark=mark,
        name=model,
        model=resolve(model_of(settings, model)),
        topic=topic or settings.kafka.topics.ground_truth,
        columns=dict(map(_pair, columns or [])),
        source=source,
        batch=batch,
    )
    check_topic(settings.kafka, wanted.topic)
    with Producer(settings.kafka) as deliver:
        done = collecting.collect(wanted, deliver, _tell)
    if as_json:
        counts = {"sent": done.sent, "marked": done.marked, "skipped": done.skipped}
        print_json({"model": model, "topic": wanted.topic, **counts})
    else:
        note(f"Sent {done.sent} records to {wanted.topic}; {done.skipped} rows without a label were left as they are.")


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        raise WrongArgument(f"--map {text!r}: expected FIELD=COLUMN")
    return field, column


def _tell(progress: collecting.Progress) -> None:
    note(f"{progress.sent} records sent, {progress.marked} rows marked")
