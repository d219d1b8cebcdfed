"""One strict way from a body's bytes to a value; whatever is not plain JSON is refused with its place.

orjson is fast and strict about numbers and text, but keeps the last of two equal keys. Counting keys tells
whether that can have happened; only then, and for what orjson refuses, Python's slower parser finds the place.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

import orjson

from stream_app.serving.errors import MOST_DETAILS, Detail, Invalid, detail

#: Deeper values are refused: a record has two levels, a list of envelopes three.
MOST_LEVELS: Final = 16
#: Longer whole numbers are refused unread: reading them takes time that grows with the square of their length.
MOST_DIGITS: Final = 30

#: A value of JSON as Python has it.
Value: TypeAlias = Any
_Place: TypeAlias = tuple[str | int, ...]

# `":` within a text is escaped as `\":` and counted as well: that only costs the slower look
_KEY: Final = re.compile(rb'"\s*:')


def decode(body: bytes) -> Value:
    """Return the value of a JSON body; raises Invalid that says what is wrong with it, and where."""
    if not body.strip():
        raise Invalid([detail([], "field required: a JSON body", "value_error.missing")])
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(_flaws(body) or [detail([], str(error), "value_error.json")]) from error
    if _count_keys(value) != len(_KEY.findall(body)):
        flaws = _flaws(body)
        if flaws:
            raise Invalid(flaws)
    return value


def _count_keys(value: Value) -> int:
    """Return how many keys a value holds, at all levels; raises Invalid for one that is too deep."""
    keys, level = 0, [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_LEVELS):
        keys += sum(len(one) for one in level if type(one) is dict)
        inner = (child for one in level for child in (one.values() if type(one) is dict else one))
        level = [child for child in inner if type(child) is dict or type(child) is list]
        if not level:
            return keys
    raise Invalid([_too_deep()])


def _too_deep() -> Detail:
    return detail([], f"nested deeper than {MOST_LEVELS} levels", "value_error.depth")


class _Doubled(dict[str, Value]):
    """An object with a key that comes twice."""

    doubled: str


def _flaws(body: bytes) -> list[Detail]:
    """Return what a strict look finds, none if nothing is wrong."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_int=_whole)
    except UnicodeDecodeError as error:
        return [detail([], f"not valid UTF-8 at byte {error.start}", "value_error.utf8")]
    except json.JSONDecodeError as error:
        return [detail([], f"not valid JSON: {error}", "value_error.json")]
    except RecursionError:
        return [_too_deep()]
    return list(islice(_walk(value, ()), MOST_DETAILS))


def _object(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    doubled = _Doubled(found)
    doubled.doubled = next(name for name in names if names.count(name) > 1)
    return doubled


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def _walk(value: Value, place: _Place) -> Iterator[Detail]:
    if len(place) > MOST_LEVELS:
        yield _too_deep()
        return
    if isinstance(value, _Doubled):
        yield detail([*place, value.doubled], "key comes twice in one object", "value_error.duplicate_key")
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, child in inner:
            yield from _walk(child, (*place, name))
    elif isinstance(value, float) and not math.isfinite(value):
        yield detail(place, "value is not a finite number", "type_error.number.not_finite")
