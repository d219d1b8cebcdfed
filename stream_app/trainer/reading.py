"""From the log's Arrow table to the arrays that candidates are fitted on, and the answers that belong to them."""

from bisect import bisect_left
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.core.schema import Schema
from stream_app.core.training import LogRows
from stream_app.errors import NotFound
from stream_app.ports import WindowLog
from stream_app.values import Features, Floats, Ints

_OUTPUT: Final = "out_"
#: A window has fewer rows than this, so that seq and pos make one number whose order is theirs.
_POSITIONS: Final = 1 << 32


def read_rows(log: WindowLog, model: str, schema: Schema, *, through: int, newest: int | None = None) -> LogRows:
    """Return the rows with seq <= through that retention left; with `newest`, only so many of them.

    Windows that are not needed are not read: their counts are known without it.
    """
    after = 0 if newest is None else _before_newest(log, model, through, newest)
    rows = to_log_rows(log.table(model, after=after, through=through), schema)
    return rows if newest is None else rows.take(slice(-newest, None))


def _before_newest(log: WindowLog, model: str, through: int, newest: int) -> int:
    """Return the newest window after which at least so many rows remain, 0 if there is none."""
    total, _ = log.rows_digest(model, through=through)

    def leaves_too_few(seq: int) -> bool:
        try:
            return total - log.rows_digest(model, through=seq)[0] < newest
        except NotFound:  # dropped by retention: whatever is left comes after it
            return False

    return max(0, bisect_left(range(through + 1), True, key=leaves_too_few) - 1)  # noqa: FBT003 - what is searched for


def to_log_rows(table: pa.Table, schema: Schema) -> LogRows:
    """Return the rows of a table with the columns of the window files."""
    count = len(table)
    numeric, categorical = np.empty((count, len(schema.numeric))), np.empty((count, len(schema.categorical)), object)
    for place, name in enumerate(schema.numeric):
        numeric[:, place] = table[f"feature_{name}"].to_numpy()
    for place, name in enumerate(schema.categorical):
        categorical[:, place] = table[f"feature_{name}"].to_numpy()
    return LogRows(
        seqs=table["seq"].to_numpy().astype(np.int64),
        positions=table["pos"].to_numpy().astype(np.int64),
        kinds=table["kind"].to_numpy(),
        ids=_learning_ids(table),
        features=Features(numeric=numeric, categorical=categorical),
        labels=table["label"].to_numpy(),
        outputs={
            name.removeprefix(_OUTPUT): _outputs(table[name], len(schema.classes))
            for name in table.column_names
            if name.startswith(_OUTPUT)
        },
    )


def _learning_ids(table: pa.Table) -> list[str | None] | None:
    """Return the keys by which `core.rows.learning_ids` tells rows apart, None if no row has one."""
    predictions, events = table["prediction_id"], table["event_id"]
    if predictions.null_count == events.null_count == len(table):
        return None
    pairs = zip(predictions.to_pylist(), events.to_pylist(), strict=True)
    return [event if prediction is None else f"\0{prediction}" for prediction, event in pairs]


def _outputs(column: pa.ChunkedArray, classes: int) -> Floats:
    """Return float64[n] or [n, classes]; NaN where the version gave no answer."""
    if not pa.types.is_list(column.type):
        return np.array(column.to_numpy(), dtype=np.float64)
    outputs = np.full((len(column), classes), np.nan)
    # flattening leaves the rows without an answer out
    outputs[column.is_valid().to_numpy()] = pc.list_flatten(column).to_numpy().reshape(-1, classes)
    return outputs


def aligned(rows: LogRows, seqs: Ints, positions: Ints, outputs: Floats) -> Floats:
    """Return the outputs that belong to the rows, NaN where there is none; both are in (seq, pos) order."""
    wanted, known = rows.seqs * _POSITIONS + rows.positions, seqs * _POSITIONS + positions
    result = np.full((len(rows), *outputs.shape[1:]), np.nan)
    if len(known):
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        found = known[at] == wanted
        result[found] = outputs[at[found]]
    return result
