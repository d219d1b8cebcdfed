"""Where settings come from: the file, `.env`, the environment and the command line, each as one nested mapping.

The names of variables are matched to the tree of settings here and nowhere else. Keys that users choose
themselves (models, features, topics) may hold dashes, dots and capitals, which variables cannot: such a part
of a name is matched to a key that a lower layer declares, ignoring case and taking `-`, `.` and `_` as equal.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin

from dotenv import dotenv_values
from pydantic import BaseModel

from stream_app.errors import Misconfigured
from stream_app.settings import Settings

Tree: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, ...]

PREFIX: Final = "STREAM_APP_"
#: Between the parts of a variable's name.
NESTING: Final = "__"
#: A variable that ends so names a file that holds the value.
FROM_FILE: Final = "_FILE"
#: Keys that hold paths; "*" is any model.
PATHS: Final[tuple[Key, ...]] = (("storage", "root"), ("storage", "artifacts"), ("models", "*", "data"))


@dataclass(slots=True)
class Layer:
    """One source of settings."""

    #: for people, e.g. "stream_app.toml" or "environment"
    name: str
    tree: Tree = field(default_factory=dict)
    #: what set a key, where that says more than the layer's name
    origins: dict[Key, str] = field(default_factory=dict)
    #: what could not be read, in words
    mistakes: list[str] = field(default_factory=list)
    #: what was not taken for a setting, though it may be meant as one, in words
    warnings: list[str] = field(default_factory=list)

    def origin(self, key: Key) -> str | None:
        """Return who set the key, or a key above it; None when this layer did not."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return self.name if holds(self.tree, key) else None

    def maker(self, key: Key) -> str | None:
        """Return who set something below the key, so that it is there; None where the layer's name says it all."""
        return next((origin for one, origin in self.origins.items() if one[: len(key)] == key), None)


def holds(tree: object, key: Key) -> bool:
    """Return whether the nested mapping has the key."""
    for part in key:
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def merged(layers: Sequence[Layer]) -> Tree:
    """Return one tree in which later layers win, key by key; lists are replaced whole."""
    result: Tree = {}
    for layer in layers:
        _merge(result, layer.tree)
    return result


def _merge(into: Tree, other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping):
            inner = into.setdefault(key, {})
            if not isinstance(inner, dict):
                inner = into[key] = {}
            _merge(inner, value)
        else:
            into[key] = value


def from_file(path: Path) -> Layer:
    """Read a TOML file; relative paths in it are relative to its own folder. Raises Misconfigured."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: no valid TOML: {error}") from error
    for key in PATHS:
        _anchor(tree, key, path.parent)
    return Layer(name=str(path), tree=tree)


def _anchor(tree: object, key: Key, folder: Path) -> None:
    """Make the relative path under the key relative to the folder, if there is one."""
    head, *rest = key
    if not isinstance(tree, dict):
        return
    for name in list(tree) if head == "*" else [head]:
        value = tree.get(name)
        if rest:
            _anchor(value, tuple(rest), folder)
        elif isinstance(value, str) and "://" not in value and value != "none":
            tree[name] = str(folder / value)


def from_dotenv(path: Path, *, below: Tree) -> Layer:
    """Read a `.env` file if it is there; `${VAR}` stays as it is written. Raises Misconfigured."""
    try:
        values = dotenv_values(path, interpolate=False) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: cannot be read ({error}); expected UTF-8 text") from error
    return _from_variables(str(path), {name: value or "" for name, value in values.items()}, below)


def from_environment(environment: Mapping[str, str], *, below: Tree) -> Layer:
    """Read the variables that begin with `STREAM_APP_`; an empty one is as good as none."""
    return _from_variables("environment", environment, below)


def _from_variables(name: str, variables: Mapping[str, str], below: Tree) -> Layer:
    layer = Layer(name=name)
    for variable, text in sorted(variables.items()):
        origin = variable if name == "environment" else f"{variable} in {name}"
        # compose files and charts set optional variables to nothing rather than leave them out
        if _is_setting(variable) and text:
            _read_variable(layer, variable, text, variables, below, origin)
        elif text and (meant := _meant(variable)):
            layer.warnings.append(f"{origin} is ignored, as it names no setting; did you mean {meant}?")
    return layer


def _read_variable(
    layer: Layer, variable: str, text: str, variables: Mapping[str, str], below: Tree, origin: str
) -> None:
    key_name, value = _from_secret_file(layer, variable, text, variables)
    if value is not None:
        _place(layer, key_name.removeprefix(PREFIX).split(NESTING), below, NESTING, value, origin)


def _place(layer: Layer, parts: Sequence[str], below: Tree, joiner: str, text: str, origin: str) -> None:
    try:
        key, annotation = locate(parts, below, joiner=joiner)
    except Misconfigured as error:
        layer.mistakes.append(f"{origin}: {error}")
        return
    _assign(layer, key, annotation, text, origin)


def _is_setting(variable: str) -> bool:
    """Return whether a variable is meant as a setting.

    Kubernetes sets variables such as STREAM_APP_PORT for a service called `stream-app`: only a nested name, or
    exactly a section's, is ours.
    """
    rest = variable.removeprefix(PREFIX)
    return rest != variable and (NESTING in rest or rest.lower() in Settings.model_fields)


def _meant(variable: str) -> str | None:
    """Return the variable that names a setting if `__` is put where this one has `_`, None if there is none.

    It may be another's all the same: Kubernetes sets STREAM_APP_SERVE_PORT for a service called `stream-app-serve`.
    """
    rest = variable.removeprefix(PREFIX)
    if rest == variable or NESTING in rest:
        return None
    for ending in ("", FROM_FILE):
        parts = _nested(Settings, rest.removesuffix(ending).lower().split("_")) if rest.endswith(ending) else None
        if parts is not None:
            return PREFIX + NESTING.join(parts).upper() + ending
    return None


def _nested(annotation: object, words: list[str]) -> list[str] | None:
    """Return the parts of the key that the words spell when they are put together, None if they spell none."""
    kind = plain(annotation)
    if not words:
        return []
    inner: list[tuple[list[str], object]] = []
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        inner = [(name.split("_"), one.annotation) for name, one in kind.model_fields.items()]
    elif get_origin(kind) is dict:
        below = get_args(kind)[1]
        # a whole model would fit any words
        shortest_rest = 1 if _is_nested(below) and below is not Any else 0
        inner = [(words[:length], below) for length in range(1, len(words) + 1 - shortest_rest)]
    for name, annotation_below in inner:
        rest = _nested(annotation_below, words[len(name) :]) if words[: len(name)] == name else None
        if rest is not None:
            return ["_".join(name), *rest]
    return None


def _from_secret_file(layer: Layer, variable: str, text: str, variables: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the variable's own name and its value, read from a file where the name asks for that."""
    if not variable.endswith(FROM_FILE):
        return variable, text
    name = variable.removesuffix(FROM_FILE)
    if variables.get(name):
        layer.mistakes.append(f"{name} and {variable} are both set; expected one of them")
        return name, None
    try:
        return name, Path(text).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        layer.mistakes.append(f"{variable} = {text!r}: expected a readable file ({error})")
        return name, None


def from_overrides(overrides: Mapping[str, str], *, below: Tree) -> Layer:
    """Read `key=value` pairs of the command line; a key is dotted as in TOML, parts with dots may be quoted."""
    layer = Layer(name="command line")
    for dotted, text in overrides.items():
        try:
            parts = list(_path_of(tomllib.loads(f"{dotted} = 0")))
        except tomllib.TOMLDecodeError:
            layer.mistakes.append(f"--set {dotted}: expected a dotted key such as kafka.group_id")
            continue
        _place(layer, parts, below, ".", text, f"--set {dotted}")
    return layer


def _path_of(tree: object) -> Iterator[str]:
    while isinstance(tree, dict):
        ((part, tree),) = tree.items()
        yield part


def _assign(layer: Layer, key: Key, annotation: object, text: str, origin: str) -> None:
    tree = layer.tree
    for part in key[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            layer.mistakes.append(f"{origin}: {part} is already set as a whole")
            return
        tree = inner
    try:
        tree[key[-1]] = _parsed(text, annotation)
    except json.JSONDecodeError as error:
        # without the text: a table may hold secrets under any name
        layer.mistakes.append(f"{origin}: expected JSON ({error})")
        return
    layer.origins[key] = origin


def _parsed(text: str, annotation: object) -> object:
    """Return what a variable's text means: JSON where the setting is a table or a list, else the text."""
    if annotation is Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    kind = plain(annotation)
    is_container = get_origin(kind) in {dict, tuple, list} or (isinstance(kind, type) and issubclass(kind, BaseModel))
    return json.loads(text) if is_container and text != "none" else text


def plain(annotation: object) -> object:
    """Return an annotation without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def locate(parts: Sequence[str], below: Tree, *, joiner: str) -> tuple[Key, object]:
    """Return the key that the parts of a name mean, and the annotation of what is there (text when unknown).

    Raises Misconfigured when a part fits several keys that are declared.
    """
    return _locate(Settings, list(parts), below, joiner)


def _locate(annotation: object, parts: list[str], declared: object, joiner: str) -> tuple[Key, object]:
    kind = plain(annotation)
    if not parts:
        return (), annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        name, used = parts[0].lower(), 1
        inner = kind.model_fields[name].annotation if name in kind.model_fields else str
    elif get_origin(kind) is dict:
        inner = get_args(kind)[1]
        name, used = _own_key(parts, declared, joiner, is_leaf=not _is_nested(inner))
    else:
        name, used, inner = parts[0], 1, Any if annotation is Any else str
    deeper = declared.get(name) if isinstance(declared, Mapping) else None
    rest, found = _locate(inner, parts[used:], deeper, joiner)
    return (name, *rest), found


def _is_nested(annotation: object) -> bool:
    kind = plain(annotation)
    return kind is Any or get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _own_key(parts: Sequence[str], declared: object, joiner: str, *, is_leaf: bool) -> tuple[str, int]:
    """Return the key of a user's own choice that the first parts mean, and how many parts it takes."""
    # the longest that leaves a key to set below it; all parts mean the whole of it
    shorter = range(len(parts) - 1, 0, -1)
    for length in (len(parts), *shorter) if is_leaf else (*shorter, len(parts)):
        wanted = _folded(joiner.join(parts[:length]))
        matches = [key for key in declared if _folded(key) == wanted] if isinstance(declared, Mapping) else []
        if len(matches) > 1:
            raise Misconfigured(f"could mean any of {', '.join(matches)}; expected a name that fits one only")
        if matches:
            return matches[0], length
    if joiner == NESTING:
        return (parts[0].lower() if parts[0].isupper() else parts[0]), 1
    return (joiner.join(parts), len(parts)) if is_leaf else (parts[0], 1)


def _folded(key: str) -> str:
    return key.lower().replace("-", "_").replace(".", "_")
