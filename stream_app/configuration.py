"""Loading the settings: defaults < file < `.env` < environment < command line, and every mistake named at once."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from stream_app.errors import Misconfigured
from stream_app.layers import (
    Key,
    Layer,
    Tree,
    from_dotenv,
    from_environment,
    from_file,
    from_overrides,
    holds,
    merged,
    plain,
)
from stream_app.redaction import REDACTED, is_secret_name, without_credentials
from stream_app.sections import LENIENT, Section
from stream_app.settings import Settings

#: Read from the working folder when no file is named.
DEFAULT_FILE: Final = Path("stream_app.toml")
DOTENV: Final = Path(".env")

#: What was expected, by pydantic's type of error; the words in braces are pydantic's context.
_EXPECTED: Final[Mapping[str, str]] = {
    "missing": "it to be set",
    "string_type": "a text",
    "string_too_short": "a text of at least {min_length} characters",
    "string_pattern_mismatch": "a name that matches {pattern}",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "dict_type": "a table",
    "model_type": "a table",
    "tuple_type": "a list",
    "path_type": "a path",
    "value_error": "{error}",
}


#: Take the place of a required key that is wrong, so that the rest of its section can be looked at.
_STAND_INS: Final[Mapping[str, str]] = {"task": "regression", "target": "-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Settings that may be wrong in places: what can be said of the others can be said all the same."""

    #: what was wrong is left out, and stands at its default
    settings: Settings
    #: one sentence each
    mistakes: tuple[str, ...] = ()
    #: what was left out
    doubtful: frozenset[Key] = frozenset()
    #: what is no mistake, but may not be what was meant: one sentence each
    warnings: tuple[str, ...] = ()

    def is_given(self, *key: str) -> bool:
        """Return whether the key was not left out, though something below it may be."""
        return not any(key[: len(one)] == one for one in self.doubtful)

    def is_sound(self, *key: str) -> bool:
        """Return whether the key says what was asked for, and all above and below it."""
        return not any(key[: len(one)] == one[: len(key)] for one in self.doubtful)


class Mistakes(Misconfigured):
    """The settings are wrong, in one place or in many."""

    def __init__(self, mistakes: list[str]) -> None:
        """Take one sentence for each mistake."""
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__("\n  ".join([f"{count} in the settings:", *mistakes]))
        self.mistakes = mistakes


def load(file: Path | None = None, overrides: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    `file` must exist; without one, `stream_app.toml` of the working folder is read if it is there. `overrides`
    are the command line's, by dotted key. Raises Misconfigured, which names every mistake with its key, the
    value given, where it came from and what was expected.
    """
    return build(layers(file, overrides or {}))


def mistakes(file: Path | None, overrides: Mapping[str, str]) -> list[str]:
    """Return every mistake in the settings as one sentence each, none when `load` would succeed."""
    return list(draft(file, overrides).mistakes)


def draft(file: Path | None, overrides: Mapping[str, str]) -> Draft:
    """Return the settings as far as they are right; never raises."""
    try:
        return drafted(layers(file, overrides))
    except Misconfigured as error:
        return Draft(settings=Settings(), mistakes=(str(error),), doubtful=frozenset({()}))


def explained(file: Path | None, overrides: Mapping[str, str]) -> Iterator[tuple[str, object, str | None]]:
    """Yield dotted key, value (secrets redacted) and origin (None: the default) of every setting in force."""
    sources = layers(file, overrides)
    for key, value in _leaves((), redacted(build(sources))):
        yield dotted(key), value, _origin(key, sources)


def _leaves(key: Key, value: object) -> Iterator[tuple[Key, object]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves((*key, name), inner)
    else:
        yield key, value


def _origin(key: Key, sources: Sequence[Layer]) -> str | None:
    return next((found for source in reversed(sources) if (found := source.origin(key))), None)


def layers(file: Path | None, overrides: Mapping[str, str]) -> list[Layer]:
    """Return the sources, weakest first; each sees the keys that the weaker ones declare."""
    result = [from_file(file or DEFAULT_FILE)] if file or DEFAULT_FILE.is_file() else []
    result.append(from_dotenv(DOTENV, below=merged(result)))
    result.append(from_environment(os.environ, below=merged(result)))
    result.append(from_overrides(overrides, below=merged(result)))
    return result


def build(sources: Sequence[Layer]) -> Settings:
    """Return the settings that the sources make together; raises Misconfigured with all mistakes."""
    found = drafted(sources)
    if found.mistakes:
        raise Mistakes(list(found.mistakes))
    return found.settings


def drafted(sources: Sequence[Layer]) -> Draft:
    """Return the settings that the sources make together, as far as they are right, with all mistakes."""
    unread = [mistake for source in sources for mistake in source.mistakes]
    settings, doubtful, wrong = _validated(merged(sources), sources)
    found = Draft(settings=settings, doubtful=frozenset(doubtful))
    contradictions = [*_within((), settings, found, sources), *_between(settings, found)]
    mistakes = (*unread, *wrong, *contradictions)
    return Draft(settings=settings, doubtful=found.doubtful, mistakes=mistakes, warnings=tuple(warnings(sources)))


def warnings(sources: Sequence[Layer]) -> list[str]:
    """Return what the sources hold that is no mistake, but may not be what was meant: one sentence each."""
    return [warning for source in sources for warning in source.warnings]


def _validated(tree: Tree, sources: Sequence[Layer]) -> tuple[Settings, set[Key], list[str]]:
    """Return the settings of what is right in the tree, the keys of what is not, and a sentence for each.

    Each round leaves out what the one before found wrong, so that there is an end.
    """
    try:
        return Settings.model_validate(tree, context={LENIENT: True}), set(), []
    except ValidationError as error:
        by_key = _by_key(error, tree)
    told = [_sentence(key, details, tree, sources) for key, details in by_key.items()]
    settings, doubtful, more = _validated(_without(tree, by_key), sources)
    return settings, {*by_key, *doubtful}, told + more


def _without(tree: Tree, keys: Iterable[Key]) -> Tree:
    left = deepcopy(tree)
    for key in keys:
        here = left
        for part in key[:-1]:
            here = here.get(part, {})
        if key[-1:] and key[-1] in _STAND_INS:
            here[key[-1]] = _STAND_INS[key[-1]]
        elif key and key[-1] in here:
            del here[key[-1]]
        else:
            # what is not there cannot be left out: what lacks it goes
            left = _without(left, [key[:-1]]) if key else {}
    return left


def _within(key: Key, value: object, found: Draft, sources: Sequence[Layer]) -> Iterator[str]:
    """Yield what is wrong between the keys of each section, where those were right by themselves."""
    if isinstance(value, Section):
        for names, expected in value.contradictions():
            if all(found.is_given(*key, name) for name in names):
                # the default of one may contradict what was given for another: the one that was given is named
                name = next((name for name in names if _origin((*key, name), sources)), names[0])
                yield _misplaced((*key, name), getattr(value, name), expected, sources)
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _within((*key, name), inner, found, sources)


def _misplaced(key: Key, value: object, expected: str, sources: Sequence[Layer]) -> str:
    origin = _origin(key, sources)
    shown = (
        "" if isinstance(value, Mapping) else f" = {_shown(key, list(value) if isinstance(value, tuple) else value)}"
    )
    return f"{dotted(key)}{shown}{f' ({origin})' if origin else ''}: expected {expected}"


def _between(settings: Settings, found: Draft) -> Iterator[str]:
    """Yield what is wrong between sections."""
    for topic, model in settings.kafka.ingest.items():
        if model not in settings.models and found.is_sound("models", model):
            hint = _hint(model, settings.models)
            yield f"kafka.ingest.{_quoted(topic)} = {model!r}: expected a model that is declared{hint}"
    topics = settings.kafka.topics
    for topic in settings.kafka.ingest:
        if topic in {topics.ground_truth, topics.model_updated, topics.learning_events}:
            yield f"kafka.ingest.{_quoted(topic)}: expected a topic of its own, not one of ours"


def _by_key(error: ValidationError, tree: Tree) -> dict[Key, list[ErrorDetails]]:
    """Return what is wrong with each key; alternatives of a union that all failed are one mistake."""
    by_key: dict[Key, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_key.setdefault(_key(details, tree), []).append(details)
    return by_key


def _key(details: ErrorDetails, tree: Tree) -> Key:
    """Return the key that an error is about: its location as far as the tree goes, or one further if missing."""
    key: Key = ()
    here: Any = tree
    for part in details["loc"]:
        if isinstance(here, Mapping) and part in here:
            here = here[part]
        elif details["type"] != "missing" or not isinstance(here, Mapping):
            break
        key = (*key, str(part))
    return key


def _sentence(key: Key, errors: Sequence[ErrorDetails], tree: Tree, sources: Sequence[Layer]) -> str:
    details = errors[0]
    origin = _origin(key, sources)
    place = f"{dotted(key)} ({origin})" if origin else dotted(key)
    if details["type"] == "extra_forbidden":
        return f"{place}: unknown key{_nearest(key)}"
    expected = " or ".join(dict.fromkeys(_expected(one) for one in errors))
    if details["type"] == "missing" or not holds(tree, key) or isinstance(details["input"], BaseModel | Mapping):
        return f"{place}: expected {expected}{_maker(key[:-1], sources) if details['type'] == 'missing' else ''}"
    return f"{dotted(key)} = {_shown(key, details['input'])}{f' ({origin})' if origin else ''}: expected {expected}"


def _maker(key: Key, sources: Sequence[Layer]) -> str:
    """Return who made what lacks a key, where that is not the settings file: there it can be seen."""
    first = next((source for source in sources if holds(source.tree, key)), None)
    maker = first and first.maker(key)
    return f", since {maker} declares {dotted(key)}" if maker else ""


def _expected(details: ErrorDetails) -> str:
    text = _EXPECTED.get(details["type"])
    return text.format_map(details.get("ctx", {})) if text else details["msg"]


def _shown(key: Key, value: object) -> str:
    return REDACTED if _is_secret(key) or isinstance(value, SecretStr) else without_credentials(repr(value))


def _is_secret(key: Key) -> bool:
    return is_secret_name(key[-1]) or _annotation(key) is SecretStr


def _annotation(key: Key) -> object:
    """Return the annotation of a key that fields lead to, None where there is none."""
    kind: Any = Settings
    for part in key:
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            kind = (getattr(kind, "__args__", None) or (None,))[-1]
        elif part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        else:
            return None
        kind = plain(kind)
    return kind


def _nearest(key: Key) -> str:
    section = _annotation(key[:-1]) if key[:-1] else Settings
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ""
    return _hint(key[-1], section.model_fields) or f"; expected one of {', '.join(section.model_fields)}"


def _hint(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def dotted(key: Key) -> str:
    """Return a key as TOML writes it, e.g. models."my.model".target."""
    return ".".join(map(_quoted, key)) or "the settings"


def _quoted(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'


def redacted(settings: Settings) -> Tree:
    """Return the settings as JSON-able values without any secret, to be shown."""
    return {name: _redacted((name,), section) for name, section in settings.model_dump(mode="json").items()}


def _redacted(key: Key, value: object) -> object:
    if isinstance(value, dict):
        return {name: _redacted((*key, name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(key, inner) for inner in value]
    if not isinstance(value, str):
        return value
    return REDACTED if _is_secret(key) else without_credentials(value)
