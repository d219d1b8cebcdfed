"""What only building the parts can tell of the settings, before any process starts on them."""

from collections.abc import Callable, Iterator
from functools import partial

from stream_app.core import models
from stream_app.errors import Misconfigured
from stream_app.inference import resolve
from stream_app.kafka import client
from stream_app.settings import KafkaSettings, ModelSettings, Settings
from stream_app.worker.opening import schema_of


def problems(settings: Settings) -> list[str]:
    """Return what would stop a worker on these settings, one sentence each; reads the data files, reaches nothing."""
    found = [*_complaint("", partial(_check_kafka, settings.kafka))]
    for name, model in settings.models.items():
        found += _complaint(f"models.{name}: ", partial(_check_model, model))
    return found


def _complaint(where: str, check: Callable[[], None]) -> Iterator[str]:
    try:
        check()
    except Misconfigured as error:
        yield f"{where}{error}"


def _check_kafka(kafka: KafkaSettings) -> None:
    client.aiokafka_options(kafka)
    if kafka.bootstrap_servers is not None:
        client.admin(kafka)


def _check_model(model: ModelSettings) -> None:
    resolved = resolve(model)
    models.build(schema_of(resolved).shape, resolved.online, resolved.seed)
