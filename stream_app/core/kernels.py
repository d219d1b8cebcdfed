"""Compiled loops over whole windows: River's own operations, in River's own order, to the last bit.

Importing this module imports numba, which takes half a second: import it where it is needed.

Three things keep the bits equal, and each was seen to break them:
- no fastmath: sums run in the order of the features, as River's `VectorDict.dot` does;
- `math.exp` and `math.pow` are the C library's here as in CPython, numpy's vector versions are not;
- CPython's `v ** 0.5` is the C library's `pow`, which differs from `sqrt` in one of a thousand values; the
  compiler replaces `pow(v, 0.5)` by `sqrt` where it can see the exponent, so the exponent is an argument.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
from numba import njit

from stream_app.values import Floats

Loop = TypeVar("Loop", bound=Callable[..., Any])

#: The exponent of a square root; handed over at run time, see above.
HALF: Final = 0.5


def compiled(loop: Loop) -> Loop:
    """Compile at the first call, keep the machine code on disk, and let other threads run meanwhile.

    The error model leaves out numba's check of each division; no divisor below can be zero. Where no folder can
    be written to (a read-only container), the code is compiled anew in each process.
    """
    try:
        return cast("Loop", njit(nogil=True, cache=True, error_model="numpy")(loop))
    except RuntimeError:
        return cast("Loop", njit(nogil=True, error_model="numpy")(loop))


def loopable(array: Floats) -> Floats:
    """Return the array in the one form that the loops are compiled for: rows in a row, aligned, writable.

    Arrow hands out read-only arrays; each other form would cost seconds of compilation in the middle of a stream.
    """
    return np.require(array, np.float64, ["C", "A", "W"])


def _fitting(x: Floats, state: Floats) -> Floats:
    # compiled loops check no index: a column too many would be read and written outside of the state
    if x.ndim != 2 or x.shape[1] != len(state):  # noqa: PLR2004 - rows and columns
        raise ValueError(f"rows are of shape {x.shape}, expected (n, {len(state)}): a column for each number")
    return loopable(x)


def standardise(x: Floats, counts: Floats, means: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """Scale a window as `preprocessing.StandardScaler` does, row by row, and move its state on.

    Shapes: x float64[n, k], the state float64[k] each, changed in place. Returns float64[n, k] twice: each row
    scaled with the state before it (what a prediction sees) and after it (what learning sees). NaN is missing:
    it stays NaN and moves nothing. Raises ValueError for another number of columns.
    """
    x = _fitting(x, means)
    before, after = np.empty_like(x), np.empty_like(x)
    _standardise(x, counts, means, variances, HALF, before, after)
    return before, after


def rescale(x: Floats, means: Floats, variances: Floats) -> Floats:
    """Scale float64[n, k] with a state that stays as it is; NaN stays NaN. Raises ValueError as `standardise`."""
    x = _fitting(x, means)
    scaled = np.empty_like(x)
    _rescale(x, means, variances, HALF, scaled)
    return scaled


@compiled
def _scaled(value: float, mean: float, variance: float, deviation: float) -> float:  # pragma: no cover - compiled
    return 0.0 if variance == 0.0 else (value - mean) / deviation


@compiled
def _standardise(  # pragma: no cover - compiled
    x: Floats, counts: Floats, means: Floats, variances: Floats, half: float, before: Floats, after: Floats
) -> None:
    for j in range(x.shape[1]):
        count, mean, variance = counts[j], means[j], variances[j]
        deviation = math.pow(variance, half)
        for i in range(x.shape[0]):
            value = x[i, j]
            if math.isnan(value):
                before[i, j] = after[i, j] = value
                continue
            before[i, j] = _scaled(value, mean, variance, deviation)
            count += 1.0
            old = mean
            mean = old + (value - old) / count
            variance = variance + ((value - old) * (value - mean) - variance) / count
            deviation = math.pow(variance, half)
            after[i, j] = _scaled(value, mean, variance, deviation)
        counts[j], means[j], variances[j] = count, mean, variance


def minus_log(chances: Floats) -> Floats:
    """Return -log of each chance, float64[n], to the last bit what `math.log` says (numpy's vector log does not)."""
    losses = np.empty(len(chances))
    _minus_log(loopable(chances), losses)
    return losses


@compiled
def _minus_log(chances: Floats, losses: Floats) -> None:  # pragma: no cover - compiled
    for i in range(len(chances)):
        losses[i] = -math.log(chances[i])


@compiled
def _rescale(x: Floats, means: Floats, variances: Floats, half: float, scaled: Floats) -> None:  # pragma: no cover
    for j in range(x.shape[1]):
        deviation = math.pow(variances[j], half)
        for i in range(x.shape[0]):
            missing = math.isnan(x[i, j])
            scaled[i, j] = x[i, j] if missing else _scaled(x[i, j], means[j], variances[j], deviation)
