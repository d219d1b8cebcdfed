"""The log for other engines: a plain folder of Parquet files, or a Delta table."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.errors import Conflict, Misconfigured, NotFound
from stream_app.ports import WindowLog


class _Parts:
    """The rows as they were when this was made, a file's worth at a time; an empty log is one empty part.

    Every part has all columns, although contenders come and go: no reader has to be told to unite them.
    """

    def __init__(self, log: WindowLog, model: str) -> None:
        self._log = log
        self._model = model
        self._files = log.files(model)
        self._schema = pa.unify_schemas([table.schema for table in self._tables()])

    def __iter__(self) -> Iterator[pa.Table]:
        return (_conform(table, self._schema) for table in self._tables())

    def _tables(self) -> Iterator[pa.Table]:
        if not self._files:
            yield _plain(self._log.table(self._model, through=0))
        for file in self._files:
            table = self._log.table(self._model, after=file.first_seq - 1, through=file.last_seq)
            if len(table) != file.rows:
                raise NotFound(f"{self._model}: window {file.first_seq} was dropped during the export")
            yield _plain(table)


def export(log: WindowLog, model: str, target: Path, format_: Literal["parquet", "delta"]) -> int:
    """Write the model's rows to the folder `target`, which must not exist yet; return how many there are.

    The folder appears once it is complete. Raises Conflict when it exists, Misconfigured for "delta" without
    the extra, NotFound for an unknown model.
    """
    with drafted(target) as draft:
        write = _write_delta if format_ == "delta" else _write_parquet
        return write(_Parts(log, model), draft)


@contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """Yield a folder to make and fill, which becomes `target` at the end, or goes if that is not reached.

    Raises Conflict when `target` exists.
    """
    if target.exists():
        raise Conflict(f"{target} exists already, expected a folder still to be made")
    draft = target.with_name(f".{target.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)  # of an export that was cut off
    try:
        yield draft
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_parquet(parts: _Parts, folder: Path) -> int:
    folder.mkdir(parents=True)
    rows = 0
    for number, table in enumerate(parts, 1):
        pq.write_table(table, folder / f"part-{number:05}.parquet", compression="zstd")
        rows += len(table)
    return rows


def _write_delta(parts: _Parts, folder: Path) -> int:
    try:
        from deltalake import write_deltalake  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Misconfigured("export to Delta: the package deltalake is missing, expected the extra 'delta'") from error
    rows = 0
    for table in parts:
        write_deltalake(str(folder), table, mode="append")
        rows += len(table)
    return rows


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), table], promote_options="default").select(schema.names)


def _plain(table: pa.Table) -> pa.Table:
    """Return the table in types that every engine knows."""
    return table.cast(pa.schema([pa.field(field.name, _plain_type(field.type)) for field in table.schema]))


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(type_):
        return type_.value_type
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", type_.tz)
    return type_
