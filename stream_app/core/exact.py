"""Sums of floats without rounding: the same whatever the order and however the input was cut.

A sum is one Python integer in units of the smallest float, so adding two sums is exact as well, and only the
final division rounds. (The idea is Kulisch's long accumulator; see U. Kulisch, "Computer Arithmetic and
Validity", 2008.)
"""

from fractions import Fraction
from typing import Final

import numpy as np

from stream_app.values import Floats

#: Bits of a float's mantissa, and of its lower half below.
_MANTISSA: Final = 53
_LOW: Final = 26
#: `frexp` gives no exponent below it.
_SMALLEST: Final = -1073
#: One unit is 2 to the power of this.
_UNIT: Final = _SMALLEST - _MANTISSA
#: Veltkamp's constant: splits a float into two of at most 26 bits, whose products are exact.
_SPLIT: Final = 134217729.0


def units(values: Floats) -> int:
    """Return the exact sum of finite float64[n] in units of 2**-1126."""
    if not len(values):
        return 0
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, _MANTISSA).astype(np.int64)
    lowest = int(exponents.min())
    places = exponents - lowest
    # Halves of 27 bits stay exact in the float sums of `bincount` for 2**26 rows, far beyond any window.
    high = np.bincount(places, weights=whole >> _LOW)
    low = np.bincount(places, weights=whole & (2**_LOW - 1))
    parts = zip(high.tolist(), low.tolist(), strict=True)
    return sum(((int(h) << _LOW) + int(v)) << place for place, (h, v) in enumerate(parts)) << (lowest - _SMALLEST)


def squares(values: Floats) -> int:
    """Return the exact sum of the squares of float64[n], each below 1e150 in size, in units of 2**-1126."""
    scaled = _SPLIT * values
    high = scaled - (scaled - values)
    low = values - high
    return units(high * high) + units(2.0 * high * low) + units(low * low)


def fraction(total: int) -> Fraction:
    """Return what a number of units is worth."""
    return Fraction(total, 1 << -_UNIT)


def nearest(value: Fraction) -> float | None:
    """Return the nearest float, None if it would be infinite."""
    try:
        return float(value)
    except OverflowError:
        return None
