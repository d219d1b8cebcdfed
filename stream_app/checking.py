"""What only building the parts can tell of the settings, before any process starts on them."""

from collections.abc import Callable, Iterator
from functools import partial

from stream_app.core import models
from stream_app.core.candidates import build_candidates
from stream_app.core.gates import policy_of
from stream_app.errors import Misconfigured
from stream_app.inference import resolve
from stream_app.kafka import client
from stream_app.settings import KafkaSettings, ModelSettings, Settings
from stream_app.worker.opening import schema_of


def problems(settings: Settings) -> list[str]:
    """Return what would stop a process on these settings, one sentence each; reads the data files, reaches nothing."""
    found = [*_complaint("", partial(_check_kafka, settings.kafka))]
    for name, model in settings.models.items():
        found += _complaints_of(f"models.{name}: ", model)
    return found


def _complaints_of(where: str, model: ModelSettings) -> list[str]:
    try:
        resolved = resolve(model)
    except Misconfigured as error:
        return [f"{where}{error}"]
    shape, seed = schema_of(resolved).shape, resolved.seed
    checks = (
        partial(models.build, shape, resolved.online, seed),
        partial(build_candidates, shape, resolved.retrain.candidates, seed),
        partial(policy_of, resolved.task, resolved.metric, resolved.retrain.min_gain),
    )
    return [complaint for check in checks for complaint in _complaint(where, check)]


def _complaint(where: str, check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except Misconfigured as error:
        yield f"{where}{error}"


def _check_kafka(kafka: KafkaSettings) -> None:
    client.aiokafka_options(kafka)
    if kafka.bootstrap_servers is not None:
        client.admin(kafka)
