"""The starter settings file: what was inferred from a data file, written so that people can go on from there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from stream_app.errors import Conflict, Misconfigured
from stream_app.inference import Inferred
from stream_app.messages import NAME_PATTERN
from stream_app.values import Task

_HEAD = """\
# Settings of stream_app. Every key with its default: stream-app config show
# The environment wins over this file: STREAM_APP_KAFKA__BOOTSTRAP_SERVERS=host:9092

[kafka]
# without a broker's address, `stream-app up` and `stream-app demo` embed one
# bootstrap_servers = "localhost:9092"
"""


def model_name(path: Path) -> str:
    """Return a model's name made from a file's."""
    stem = path.name.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:64] or "model"


def text(name: str, inferred: Inferred) -> str:
    """Return the starter file for one model; raises Misconfigured for a name that no model may have."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise Misconfigured(f"model name {name!r}: expected it to match {NAME_PATTERN}")
    return "\n".join([_HEAD, *_model(name, inferred), *_features(name, inferred)]) + "\n"


def write(path: Path, content: str, *, replace: bool) -> None:
    """Write the file; raises Conflict when it is there already and must not be replaced."""
    try:
        with path.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError as error:
        raise Conflict(f"{path} is there already; --force replaces it, --output names another") from error


def _model(name: str, inferred: Inferred) -> Iterator[str]:
    yield f"[models.{_key(name)}]"
    yield f'task = "{inferred.task}"'
    yield f"target = {_string(inferred.target)}"
    if inferred.task is not Task.REGRESSION:
        remark = "  # negative, positive" if inferred.task is Task.BINARY else ""
        yield f"classes = [{', '.join(map(_literal, inferred.classes))}]{remark}"
    yield ""


def _features(name: str, inferred: Inferred) -> Iterator[str]:
    yield "# low and high bound a number, values lists the only categories accepted; what breaks them is dead-lettered"
    yield f"[models.{_key(name)}.features]"
    for column in inferred.columns:
        remark = re.sub(r"[\x00-\x1f\x7f]", " ", column.remark)
        if column.feature is None:
            yield f"# {_key(column.name)} was {remark}"
            continue
        optional = "" if column.feature.required else ", required = false"
        yield f'{_key(column.name)} = {{ type = "{column.feature.type}"{optional} }}  # {remark}'


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _string(name)


def _literal(value: bool | int | str) -> str:  # noqa: FBT001 - a label, not a flag
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(value: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
