"""What the demo can stream: a settings file with one model each, and the rows of the data file that it names."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from stream_app.datafiles import chunks
from stream_app.errors import WrongArgument
from stream_app.feeding import rows
from stream_app.kafka.codec import encode
from stream_app.model_settings import ModelSettings

#: The one that comes with the package; the others are in a checkout only.
PACKAGED: Final = "electricity"
PACKAGE: Final = Path(__file__).parents[1]
CHECKOUT: Final = PACKAGE.parent / "examples"
SETTINGS: Final = "stream_app.toml"

_HEAD = """# The settings of `stream-app demo`: what you would write for a stream of your own.
[storage]
root = "{root}"

[kafka]
session_timeout_s = 4
request_timeout_s = 10
incarnation = "follow"

[http]
worker_port = 0
trainer_port = 0

"""


@dataclass(frozen=True)
class Example:
    """One model with real data."""

    #: of the example and of its model
    name: str
    #: its settings file
    settings: Path

    @cached_property
    def _written(self) -> str:
        """The name of the data file as the settings spell it."""
        model = tomllib.loads(self.settings.read_text(encoding="utf-8"))["models"][self.name]
        return str(model["data"])

    @property
    def data(self) -> Path:
        """The data file."""
        return self.settings.parent / self._written

    def settings_text(self, root: Path) -> str:
        """Return the settings of a demo that keeps its state in `root`."""
        own = self.settings.read_text(encoding="utf-8")
        return _HEAD.format(root=root) + own.replace(f'"{self._written}"', f'"{self.data.absolute()}"')


def find(name: str) -> Example:
    """Return the example of that name; raises WrongArgument, which says which there are."""
    if name == PACKAGED:
        return Example(name, PACKAGE / "data" / f"{PACKAGED}.toml")
    if name in names():
        return Example(name, CHECKOUT / name / SETTINGS)
    elsewhere = "" if CHECKOUT.is_dir() else "; the others are not in the package, but in a checkout of the project"
    raise WrongArgument(f"--example {name!r}: expected one of: {', '.join(names())}{elsewhere}")


def names() -> list[str]:
    """Return the names of the examples that are here, the packaged one first."""
    others = {path.parent.name for path in CHECKOUT.glob(f"*/{SETTINGS}")} - {PACKAGED}
    return [PACKAGED, *sorted(others)]


def read(data: Path, model: ModelSettings) -> list[Mapping[str, Any]]:
    """Return the rows of the data file, features and target side by side; what is missing is None."""
    texts = [name for name, feature in model.features.items() if feature.type == "category"]
    return [row for chunk in chunks(data, texts=texts) for row in rows(chunk.frame)]


def poison(model: ModelSettings, row: Mapping[str, Any]) -> Sequence[bytes | None]:
    """Return what goes wrong at producers, made from a good row.

    Text that is no JSON, no features, a wrong type, a number out of range, an unknown label, nothing at all.
    """
    label = row[model.target]
    features = {name: value for name, value in row.items() if name != model.target}
    number = next(name for name, feature in model.features.items() if feature.type == "number")
    return (
        b"\x00\xff not json",
        encode({"features": {}, "label": label}),
        encode({"features": {**features, number: "noon"}, "label": label}),
        encode({**row, number: 1e300}),
        encode({"features": features, "label": ["sideways"]}),
        None,
    )
