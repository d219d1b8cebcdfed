"""Compiled linear models: River's SGD over whole windows, operation by operation; see `kernels` for the rules.

Importing this module imports numba.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from stream_app.core.kernels import HALF, compiled
from stream_app.values import Floats, Ints

#: Kinds of `Options.rate`: River's schedulers Constant (a), InverseScaling (a / (t + 1) ** b) and Optimal
#: (1 / (a * (b + t))), t counting the steps taken.
CONSTANT, INVERSE, OPTIMAL = 0.0, 1.0, 2.0
#: Where River's sigmoid and the gradient of its log loss stop calling exp.
SATURATED: Final = 30.0
FLAT: Final = 18.0


class Options(NamedTuple):
    """Parameters of `linear_model.LogisticRegression` and `LinearRegression` with plain SGD."""

    l2: float
    #: largest size of a gradient
    clip: float
    #: weights of positive and negative rows in the log loss
    positive: float
    negative: float
    #: float64[3]: kind, a, b
    rate: Floats
    intercept_rate: Floats


class Heads(NamedTuple):
    """The state of h linear models over k features: one per class for one-vs-rest, else one; changed in place."""

    #: float64[h, k]
    weights: Floats
    #: float64[h]
    intercepts: Floats
    #: int64[h], steps taken
    steps: Ints
    #: int64[h], the classes in the order in which they were first seen
    order: Ints
    #: int64[1], how many have been seen
    seen: Ints
    #: float64[3], number, mean and sum of squared deviations of the labels, where the target is scaled
    target: Floats


class Rows(NamedTuple):
    """A window of n rows."""

    #: float64[n, k] as it came; NaN is missing and takes no part in any sum
    x: Floats
    #: float64[n, k], scaled as a prediction and as learning see it
    before: Floats
    after: Floats
    #: float64[n], class codes or values
    labels: Floats


def learn_binary(heads: Heads, options: Options, rows: Rows) -> Floats:
    """Score and learn a window as `LogisticRegression` does; return P(positive), float64[n]."""
    outputs = np.empty(len(rows.x))
    _learn_binary(heads, options, rows, outputs)
    return outputs


def learn_values(heads: Heads, options: Options, rows: Rows) -> Floats:
    """Score and learn a window as `LinearRegression` does; return the values, float64[n]."""
    outputs = np.empty(len(rows.x))
    _learn_values(heads, options, rows, outputs)
    return outputs


def learn_scaled(heads: Heads, options: Options, rows: Rows) -> Floats:
    """Score and learn a window as `TargetStandardScaler` over `LinearRegression` does; return float64[n]."""
    outputs = np.empty(len(rows.x))
    _learn_scaled(heads, options, rows, HALF, outputs)
    return outputs


def learn_classes(heads: Heads, options: Options, rows: Rows) -> Floats:
    """Score and learn a window as `OneVsRestClassifier` over `LogisticRegression` does; return float64[n, h]."""
    outputs = np.empty((len(rows.x), len(heads.intercepts)))
    _learn_classes(heads, options, rows, outputs)
    return outputs


def predict_binary(heads: Heads, x: Floats, scaled: Floats) -> Floats:
    """Return P(positive), float64[n], for rows float64[n, k]; the state stays as it is."""
    outputs = np.empty(len(x))
    _predict_binary(heads, x, scaled, outputs)
    return outputs


def predict_values(heads: Heads, x: Floats, scaled: Floats) -> Floats:
    """Return the values, float64[n], for rows float64[n, k]; the state stays as it is."""
    outputs = np.empty(len(x))
    _predict_values(heads, x, scaled, outputs)
    return outputs


def predict_scaled(heads: Heads, x: Floats, scaled: Floats) -> Floats:
    """Return the values in the target's own units, float64[n]; the state stays as it is."""
    outputs = np.empty(len(x))
    _predict_scaled(heads, x, scaled, HALF, outputs)
    return outputs


def predict_classes(heads: Heads, x: Floats, scaled: Floats) -> Floats:
    """Return the classes' shares, float64[n, h], for rows float64[n, k]; the state stays as it is."""
    outputs = np.empty((len(x), len(heads.intercepts)))
    _predict_classes(heads, x, scaled, outputs)
    return outputs


@compiled
def _raw(heads: Heads, head: int, x: Floats, scaled: Floats) -> float:  # pragma: no cover - compiled
    total = 0.0
    for j in range(x.shape[0]):
        if not math.isnan(x[j]):
            total += heads.weights[head, j] * scaled[j]
    return float(total + heads.intercepts[head])


@compiled
def _sigmoid(raw: float) -> float:  # pragma: no cover - compiled
    if raw < -SATURATED:
        return 0.0
    if raw > SATURATED:
        return 1.0
    return 1.0 / (1.0 + math.exp(-raw))


@compiled
def _log_gradient(options: Options, positive: bool, raw: float) -> float:  # noqa: FBT001  # pragma: no cover
    weight = options.positive if positive else options.negative
    sign = 1.0 if positive else -1.0
    z = raw * sign
    if z > FLAT:
        return weight * math.exp(-z) * -sign
    if z < -FLAT:
        return weight * -sign
    return weight * -sign / (math.exp(z) + 1.0)


@compiled
def _rate(rate: Floats, step: int) -> float:  # pragma: no cover - compiled
    if rate[0] == INVERSE:
        return float(rate[1] / math.pow(step + 1.0, rate[2]))
    if rate[0] == OPTIMAL:
        return float(1.0 / (rate[1] * (rate[2] + step)))
    return float(rate[1])


@compiled
def _step(  # pragma: no cover - compiled
    heads: Heads, head: int, options: Options, x: Floats, scaled: Floats, gradient: float
) -> None:
    # Not min and max: only Python's own order of comparing sends NaN River's way.
    if options.clip < gradient:  # noqa: PLR1730 - see above
        gradient = options.clip
    if -options.clip > gradient:  # noqa: PLR1730 - see above
        gradient = -options.clip
    step = heads.steps[head]
    heads.intercepts[head] -= _rate(options.intercept_rate, step) * gradient
    rate = _rate(options.rate, step)
    for j in range(x.shape[0]):
        if not math.isnan(x[j]):
            slope = scaled[j] * gradient
            if options.l2 != 0.0:
                slope = slope + options.l2 * heads.weights[head, j]
            heads.weights[head, j] -= rate * slope
    heads.steps[head] = step + 1


@compiled
def _learn_binary(heads: Heads, options: Options, rows: Rows, outputs: Floats) -> None:  # pragma: no cover - compiled
    for i in range(outputs.shape[0]):
        x, after = rows.x[i], rows.after[i]
        outputs[i] = _sigmoid(_raw(heads, 0, x, rows.before[i]))
        gradient = _log_gradient(options, rows.labels[i] == 1.0, _raw(heads, 0, x, after))
        _step(heads, 0, options, x, after, gradient)


@compiled
def _learn_values(heads: Heads, options: Options, rows: Rows, outputs: Floats) -> None:  # pragma: no cover - compiled
    for i in range(outputs.shape[0]):
        x, after = rows.x[i], rows.after[i]
        outputs[i] = _raw(heads, 0, x, rows.before[i])
        _step(heads, 0, options, x, after, 2.0 * (_raw(heads, 0, x, after) - rows.labels[i]))


@compiled
def _deviation(target: Floats, half: float) -> float:  # pragma: no cover - compiled
    """Return the standard deviation of the labels as River's `stats.Var` has it."""
    return math.pow(target[2] / (target[0] - 1.0) if target[0] > 1.0 else 0.0, half)


@compiled
def _scale_label(target: Floats, half: float, label: float) -> float:  # pragma: no cover - compiled
    """Take a label into the statistics and return it scaled by them."""
    old = target[1]
    target[0] += 1.0
    target[1] += (1.0 / target[0]) * (label - old)
    target[2] += (label - old) * (label - target[1])
    deviation = _deviation(target, half)
    return float((label - target[1]) / deviation if deviation != 0.0 else 0.0)


@compiled
def _learn_scaled(  # pragma: no cover - compiled
    heads: Heads, options: Options, rows: Rows, half: float, outputs: Floats
) -> None:
    for i in range(outputs.shape[0]):
        x, after = rows.x[i], rows.after[i]
        outputs[i] = _raw(heads, 0, x, rows.before[i]) * _deviation(heads.target, half) + heads.target[1]
        label = _scale_label(heads.target, half, rows.labels[i])
        _step(heads, 0, options, x, after, 2.0 * (_raw(heads, 0, x, after) - label))


@compiled
def _predict_scaled(heads: Heads, x: Floats, scaled: Floats, half: float, outputs: Floats) -> None:  # pragma: no cover
    deviation = _deviation(heads.target, half)
    for i in range(outputs.shape[0]):
        outputs[i] = _raw(heads, 0, x[i], scaled[i]) * deviation + heads.target[1]


@compiled
def _learn_classes(heads: Heads, options: Options, rows: Rows, outputs: Floats) -> None:  # pragma: no cover - compiled
    for i in range(outputs.shape[0]):
        x, after = rows.x[i], rows.after[i]
        _share(heads, x, rows.before[i], outputs[i])
        _meet(heads, int(rows.labels[i]))
        for place in range(heads.seen[0]):
            head = heads.order[place]
            gradient = _log_gradient(options, rows.labels[i] == head, _raw(heads, head, x, after))
            _step(heads, head, options, x, after, gradient)


@compiled
def _meet(heads: Heads, label: int) -> None:  # pragma: no cover - compiled
    """Note a class that was not seen before: its head learns from now on."""
    seen = heads.seen[0]
    for place in range(seen):
        if heads.order[place] == label:
            return
    heads.order[seen] = label
    heads.seen[0] = seen + 1


@compiled
def _share(heads: Heads, x: Floats, scaled: Floats, outputs: Floats) -> None:  # pragma: no cover - compiled
    """Write one row's shares: of the classes seen so far, added up in the order in which they were seen."""
    seen, total = heads.seen[0], 0.0
    outputs[:] = 0.0 if seen else 1.0 / outputs.shape[0]
    for place in range(seen):
        head = heads.order[place]
        outputs[head] = _sigmoid(_raw(heads, head, x, scaled))
        total += outputs[head]
    for place in range(seen):
        head = heads.order[place]
        outputs[head] = outputs[head] / total if total != 0.0 else 1.0 / seen


@compiled
def _predict_binary(heads: Heads, x: Floats, scaled: Floats, outputs: Floats) -> None:  # pragma: no cover - compiled
    for i in range(outputs.shape[0]):
        outputs[i] = _sigmoid(_raw(heads, 0, x[i], scaled[i]))


@compiled
def _predict_values(heads: Heads, x: Floats, scaled: Floats, outputs: Floats) -> None:  # pragma: no cover - compiled
    for i in range(outputs.shape[0]):
        outputs[i] = _raw(heads, 0, x[i], scaled[i])


@compiled
def _predict_classes(heads: Heads, x: Floats, scaled: Floats, outputs: Floats) -> None:  # pragma: no cover - compiled
    for i in range(outputs.shape[0]):
        _share(heads, x[i], scaled[i], outputs[i])
