"""Options that commands share, so that they are spelled and explained the same everywhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from stream_app import configuration
from stream_app.errors import Misconfigured, NotFound, WrongArgument
from stream_app.model_settings import ModelSettings
from stream_app.settings import Settings
from stream_app.telemetry import logs

_LOG = logging.getLogger(__name__)

#: In the storage folder while an embedded broker runs: its address, for other commands on this machine.
ADDRESS_FILE: Final = "broker"

ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings file; default: stream_app.toml, if it is here."),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one key, e.g. kafka.group_id=x; may be repeated."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@contextmanager
def argument(name: str) -> Iterator[None]:
    """Turn what is wrong with a file that the command line names into a usage error: no setting is to blame."""
    try:
        yield
    except Misconfigured as error:
        raise WrongArgument(f"{name}: {error}") from error


def pairs(overrides: list[str] | None) -> dict[str, str]:
    """Return the `--set` options as a mapping; raises a usage error for one without `=`."""
    result = {}
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{text!r}: expected KEY=VALUE", param_hint="--set")
        result[key.strip()] = value
    return result


def load(config: Path | None, overrides: list[str] | None) -> Settings:
    """Return the settings that a command's shared options ask for, and log as they say from now on.

    What they leave in doubt is logged. Where they name no broker and `stream-app up` runs an embedded one, that is
    the broker.
    """
    sources = configuration.layers(config, pairs(overrides))
    settings = configuration.build(sources)
    logs.configure(settings.log)
    for warning in configuration.warnings(sources):
        _LOG.warning(warning)
    embedded = settings.storage.root / ADDRESS_FILE
    if settings.kafka.bootstrap_servers is None and embedded.exists():
        return configuration.load(config, {"kafka.bootstrap_servers": embedded.read_text(), **pairs(overrides)})
    return settings


def model_of(settings: Settings, name: str) -> ModelSettings:
    """Return the model of that name; raises NotFound, which says which there are."""
    if name not in settings.models:
        raise NotFound(
            f"no model {name!r} in the settings; expected one of: {', '.join(settings.models) or 'none yet'}"
        )
    return settings.models[name]
