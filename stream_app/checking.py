"""What only building the parts can tell of the settings, before any process starts on them."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import SecretStr

from stream_app.configuration import Mistakes
from stream_app.core import models
from stream_app.core.candidates import build_candidates
from stream_app.core.gates import policy_of
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.inference import resolve
from stream_app.kafka import client
from stream_app.model_settings import ModelSettings
from stream_app.settings import KafkaSettings, Settings, StorageSettings
from stream_app.storage.artifacts import check_location
from stream_app.storage.database import parse_url
from stream_app.storage.keys import checkpoint_key
from stream_app.storage.signing import Signer, Verifier
from stream_app.values import Task
from stream_app.worker.opening import schema_of

IsSound: TypeAlias = Callable[..., bool]

#: What a learner is tried on where the model's own classes are not known.
_SOME_CLASSES: Final = {Task.BINARY: (0, 1), Task.MULTICLASS: (0, 1, 2), Task.REGRESSION: ()}


def checked(settings: Settings) -> Settings:
    """Return the settings with every model's features and classes filled in; raises Misconfigured with all mistakes.

    For processes, before they reach anything: what `config check` would say ends them here.
    """
    filled, found = _all_examined(settings, _is_sound)
    if found:
        raise Mistakes(found)
    return settings.model_copy(update={"models": filled})


def _is_sound(*_key: str) -> bool:
    return True


def problems(settings: Settings, is_sound: IsSound = _is_sound) -> list[str]:
    """Return what would stop a process on these settings, one sentence each; reads the data files, reaches nothing.

    `is_sound` tells of which keys the value is what was asked for: of the others nothing is said.
    """
    return _all_examined(settings, is_sound)[1]


def _all_examined(settings: Settings, is_sound: IsSound) -> tuple[dict[str, ModelSettings], list[str]]:
    filled = {}
    found = _of_deployment(settings, is_sound)
    for name, model in settings.models.items():
        filled[name], complaints = _examined(model, partial(is_sound, "models", name))
        found += [f"models.{name}: {complaint}" for complaint in complaints]
    return filled, found


def _of_deployment(settings: Settings, is_sound: IsSound) -> list[str]:
    """Return what is wrong with Kafka's settings, the server's and storage's."""
    found = [*_of_kafka(settings.kafka, is_sound), *_of_serve(settings)]
    for key, check in _storage_checks(settings.storage).items():
        if is_sound("storage", key):
            found += _complaint(check)
    return found


def _of_kafka(kafka: KafkaSettings, is_sound: IsSound) -> Iterator[str]:
    if kafka.bootstrap_servers is not None and is_sound("kafka", "bootstrap_servers"):
        yield from _complaint(partial(client.check_address, kafka))
    if not is_sound("kafka", "extra"):
        return
    refused = client.untouchable(kafka)
    yield from refused.values()
    rest = {name: value for name, value in kafka.extra.items() if name not in refused}
    complaints = _of_options(kafka, rest)
    if complaints:
        # together they name the first that is wrong; what belongs together is kept together
        apart = [complaint for group in client.groups(rest) for complaint in _of_options(kafka, group)]
        yield from apart or complaints


def _of_serve(settings: Settings) -> Iterator[str]:
    default = settings.serve.default_model
    if default is not None and settings.models and default not in settings.models:
        yield f"serve.default_model = {default!r}: expected one of the models: {', '.join(settings.models)}"


def _of_options(kafka: KafkaSettings, extra: Mapping[str, Any]) -> list[str]:
    given = kafka.model_copy(update={"extra": dict(extra)})
    # what librdkafka does not know, aiokafka does not know either: once is enough
    checks = (partial(client.aiokafka_options, given), partial(client.check_options, given))
    return [complaint for check in checks for complaint in _complaint(check)][:1]


def _storage_checks(storage: StorageSettings) -> dict[str, Callable[[], object]]:
    """Return a check for each key that is set."""
    checks: dict[str, Callable[[], object]] = {"root": partial(_check_folder, "storage.root", storage.root)}
    if storage.url is not None:
        checks["url"] = partial(_check_database, _plain(storage.url))
    if storage.artifacts is not None:
        checks["artifacts"] = partial(_check_artifacts, storage.artifacts)
    if storage.signing_key is not None:
        checks["signing_key"] = partial(Signer.from_pem, _plain(storage.signing_key))
    if storage.verify_key is not None:
        checks["verify_key"] = partial(Verifier.from_pem, storage.verify_key)
    if storage.checkpoint_key is not None:
        checks["checkpoint_key"] = partial(checkpoint_key, storage.root, _plain(storage.checkpoint_key))
    return checks


def _plain(secret: SecretStr) -> str:
    return secret.get_secret_value()


def _check_database(url: str) -> None:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        _check_folder("storage.url", Path(str(parsed.database)).absolute().parent)


def _check_artifacts(location: str) -> None:
    check_location(location)
    local = location.removeprefix("file://")
    if "://" not in local:
        _check_folder("storage.artifacts", Path(local))


def _check_folder(key: str, folder: Path) -> None:
    """Raise Misconfigured unless the folder can be written to, or made in the nearest one above that is there."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise Misconfigured(f"{key} = {str(folder)!r}: expected a folder, but {nearest} is none")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise Misconfigured(f"{key} = {str(folder)!r}: expected a folder of ours, but {nearest} cannot be written to")


def _examined(model: ModelSettings, is_sound: IsSound) -> tuple[ModelSettings, list[str]]:
    """Return the model with what its data file says, as far as it does, and what is wrong with it."""
    found: list[str] = []
    if all(map(is_sound, ("task", "target", "data", "features", "classes"))):
        try:
            model = resolve(model)
        except Misconfigured as error:
            found.append(str(error))
    if is_sound("task"):
        found += _unbuildable(model, is_sound)
    return model, found


def _unbuildable(model: ModelSettings, is_sound: IsSound) -> Iterator[str]:
    shape, seed, retrain = _shape(model), model.seed, model.retrain
    if is_sound("online"):
        yield from _complaint(partial(models.build, shape, model.online, seed))
    if is_sound("retrain", "candidates"):
        yield from _complaint(partial(build_candidates, shape, retrain.candidates, seed))
    if is_sound("metric"):
        yield from _complaint(partial(policy_of, model.task, model.metric, retrain.min_gain))


def _shape(model: ModelSettings) -> Shape:
    """Return the model's shape; where its own columns or classes are missing or wrong, some that fit the task.

    Names and parameters of learners hardly depend on them, and shall not wait for them.
    """
    shape = schema_of(model).shape
    is_misfit = any("classes" in keys for keys, _ in model.contradictions())
    is_lacking = not shape.classes and model.task is not Task.REGRESSION
    return Shape(
        task=shape.task,
        numeric=shape.numeric if model.features else ("number",),
        categorical=shape.categorical,
        classes=_SOME_CLASSES[model.task] if is_misfit or is_lacking else shape.classes,
    )


def _complaint(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except Misconfigured as error:
        yield str(error)
