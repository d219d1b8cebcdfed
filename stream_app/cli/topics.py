"""`stream-app topics create` and `stream-app topics list`."""

import typer

from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import note, print_json, print_rows
from stream_app.errors import NotFound
from stream_app.kafka import client, topics
from stream_app.settings import KafkaSettings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Create the topics, or list them.")


@app.command(epilog="Example: stream-app topics create --set kafka.topics.partitions=8")
def create(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Create the topics that are missing; those that exist are left as they are."""
    settings = load(config, overrides)
    created = topics.declare(settings.kafka)
    if as_json:
        print_json({"created": created, "topics": settings.kafka.topic_names})
        return
    note(f"Created {', '.join(created)}." if created else "All topics were there already.")


@app.command("list", epilog="Example: stream-app topics list --json")
def list_(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """List our topics: how many partitions each has, and how many offsets are held; none where it is missing."""
    settings = load(config, overrides)
    rows = [_described(settings.kafka, topic) for topic in settings.kafka.topic_names]
    (print_json if as_json else print_rows)(rows)


def _described(settings: KafkaSettings, topic: str) -> dict[str, object]:
    admin = client.admin(settings)
    try:
        ends, begins = topics.end_offsets(admin, [topic]), topics.begin_offsets(admin, [topic])
    except NotFound:
        return {"topic": topic, "partitions": None, "offsets": None}
    return {"topic": topic, "partitions": len(ends), "offsets": sum(ends.values()) - sum(begins.values())}
