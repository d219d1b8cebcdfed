"""Choosing and joining rows: the two things that every stage does with a struct of arrays."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream_app.values import Features, Floats, Rows

Text = Sequence[str | None]
Column = TypeVar("Column")

_TEXTS = ("event_ids", "prediction_ids", "origins", "sources", "served_versions")
_FLOATS = ("served_outputs", "served_known_labels")


def choose(rows: Rows, mask: NDArray[np.bool_]) -> Rows:
    """Return the rows where the mask is true, in their order."""
    if mask.all():
        return rows
    at = np.flatnonzero(mask)
    texts: dict[str, Any] = {name: _chosen(getattr(rows, name), at) for name in _TEXTS}
    floats: dict[str, Any] = {
        name: None if getattr(rows, name) is None else getattr(rows, name)[at] for name in _FLOATS
    }
    return Rows(
        partition=rows.partition,
        offsets=rows.offsets[at],
        indexes=rows.indexes[at],
        occurred_at_ms=rows.occurred_at_ms[at],
        kinds=rows.kinds[at],
        features=rows.features.take(at),
        labels=rows.labels[at],
        outputs={name: column[at] for name, column in rows.outputs.items()},
        **texts,
        **floats,
    )


def _chosen(column: Text | None, at: NDArray[np.intp]) -> Text | None:
    return None if column is None else [column[i] for i in at.tolist()]


def join(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts in order; a column that only some parts have is filled with absent values.

    All parts come from one partition; there is at least one.
    """
    if len(parts) == 1:
        return parts[0]
    texts = {name: _joined(parts, name, _absent_texts, _chain) for name in _TEXTS}
    floats = {name: _joined(parts, name, _absent_floats, np.concatenate) for name in _FLOATS}
    return Rows(
        partition=parts[0].partition,
        offsets=np.concatenate([p.offsets for p in parts]),
        indexes=np.concatenate([p.indexes for p in parts]),
        occurred_at_ms=np.concatenate([p.occurred_at_ms for p in parts]),
        kinds=np.concatenate([p.kinds for p in parts]),
        features=Features(
            numeric=np.concatenate([p.features.numeric for p in parts]),
            categorical=np.concatenate([p.features.categorical for p in parts]),
        ),
        labels=np.concatenate([p.labels for p in parts]),
        outputs=_joined_outputs(parts),
        **texts,
        **floats,
    )


def _joined(
    parts: Sequence[Rows], name: str, absent: Callable[[int], Column], concatenate: Callable[[list[Column]], Any]
) -> Any:  # noqa: ANN401 - the type of the column it is asked for
    columns = [getattr(p, name) for p in parts]
    if all(column is None for column in columns):
        return None
    return concatenate([absent(len(p)) if c is None else c for p, c in zip(parts, columns, strict=True)])


def _absent_texts(n: int) -> Text:
    return [None] * n


def _absent_floats(n: int) -> Floats:
    return np.full(n, np.nan)


def _chain(columns: list[Text]) -> Text:
    return list(chain.from_iterable(columns))


def _joined_outputs(parts: Sequence[Rows]) -> dict[str, Floats]:
    names = dict.fromkeys(chain.from_iterable(p.outputs for p in parts))
    return {name: np.concatenate([_output(parts, p, name) for p in parts]) for name in names}


def _output(parts: Sequence[Rows], part: Rows, name: str) -> Floats:
    if name in part.outputs:
        return part.outputs[name]
    like = next(p.outputs[name] for p in parts if name in p.outputs)
    return np.full((len(part), *like.shape[1:]), np.nan)


def learning_ids(rows: Rows) -> Text | None:
    """Return each row's learning key: its prediction id, else its event id, else None (its coordinates).

    A prediction id carries a prefix that no event id can have, so that the two never meet by accident.
    """
    if rows.prediction_ids is None:
        return rows.event_ids
    events = rows.event_ids or [None] * len(rows)
    return [e if p is None else f"\0{p}" for p, e in zip(rows.prediction_ids, events, strict=True)]
