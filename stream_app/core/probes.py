"""A fixed set of rows that every holder of a schema can make, and the hash of what a model says about them.

Equal hashes mean equal models for all that can be seen from outside; pickles of equal models may differ.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from stream_app.core.schema import Field, Schema
from stream_app.values import Features, Floats, Objects

#: The golden ratio's fraction: its multiples, modulo 1, fill [0, 1) evenly for any n (Weyl 1916).
GOLDEN: Final = 0.6180339887498949
#: Unbounded numbers reach from minus to plus this.
REACH: Final = 1e6
#: Categories for features that declare none; models have mostly not seen them, and must answer all the same.
NAMES: Final = ("a", "b", "c")
#: Every so many rows an optional feature is missing.
GAP: Final = 7


def probe_set(schema: Schema, n: int = 32) -> Features:
    """Return n rows made from the schema alone by plain arithmetic: the same on every machine, for ever."""
    numbers = [f for f in schema.fields if f.type == "number"]
    names = [f for f in schema.fields if f.type == "category"]
    numeric = np.empty((n, len(numbers)))
    categorical: Objects = np.empty((n, len(names)), dtype=object)
    for column, field in enumerate(numbers):
        numeric[:, column] = _numbers(field, _spread(n, column))
    for column, field in enumerate(names):
        categorical[:, column] = _names(field, n, column)
    return Features(numeric=numeric, categorical=categorical)


def _spread(n: int, column: int) -> Floats:
    """Return float64[n] in [0, 1), in another order for each column, so that columns do not move together."""
    return np.array([((row + 1) * (column + 1) * GOLDEN) % 1.0 for row in range(n)])


def _numbers(field: Field, spread: Floats) -> Floats:
    low, high = field.low, field.high
    if low is not None and high is not None:
        values = low + (high - low) * spread
    elif low is not None:
        values = low + _magnitudes(spread)
    elif high is not None:
        values = high - _magnitudes(spread)
    else:
        values = np.where(spread < 0.5, -1.0, 1.0) * _magnitudes((2.0 * spread) % 1.0)  # noqa: PLR2004 - one half
    return values if field.required else np.where(_gaps(len(values)), np.nan, values)


def _magnitudes(spread: Floats) -> Floats:
    """Return numbers from 0 to the reach, most of them small; a product, since powers differ by machine."""
    return REACH * spread * spread * spread * spread * spread * spread


def _gaps(n: int) -> list[bool]:
    return [row % GAP == GAP - 1 for row in range(n)]


def _names(field: Field, n: int, column: int) -> list[str | None]:
    choices: Sequence[str] = field.values or NAMES
    chosen: list[str | None] = [choices[(row + column) % len(choices)] for row in range(n)]
    return chosen if field.required else [None if gap else c for gap, c in zip(_gaps(n), chosen, strict=True)]


def probe_hash(outputs: Sequence[Floats]) -> str:
    """Return the sha256, in hex, of arrays of float64: shapes and bytes, every NaN taken as the same."""
    digest = hashlib.sha256()
    for array in outputs:
        values = np.where(np.isnan(array), np.nan, array).astype("<f8")
        digest.update(f"{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
