"""Reading tables from files: CSV, JSON lines and Parquet, each also with `.gz`, chunk by chunk."""

import csv
import gzip
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api import types

from stream_app.errors import Misconfigured

#: What a CSV cell says when nothing is known. "None" is not among them: it is a category in too many files.
MISSING: Final = ("", " ", "NA", "N/A", "NaN", "nan", "NULL", "null")
#: What others put between the columns of a CSV; one column is of no use.
_OTHER_MARKS: Final = (";", "\t", "|")
CHUNK_ROWS: Final = 5_000
#: Newest pieces of a file name, by format.
FORMATS: Final = {"csv": (".csv",), "json lines": (".jsonl", ".ndjson", ".json"), "parquet": (".parquet",)}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of a file."""

    frame: pd.DataFrame
    #: share of the file that has been read, 0 to 1
    share: float


def read(path: Path, *, most_rows: int) -> pd.DataFrame:
    """Return the first rows of the file as one frame; raises Misconfigured as `chunks` does.

    In a CSV, whole numbers of which some begin with a needless 0 are codes, and stay the text that they are.
    """
    chunk = next(chunks(path, rows=most_rows), None)
    if chunk is None or chunk.frame.empty:
        raise Misconfigured(f"{path}: no rows in it")
    frame = chunk.frame
    whole = [name for name in frame.columns if _are_whole(frame[name])] if _format(path) == "csv" else []
    if not whole:
        return frame
    written = next(chunks(path, rows=most_rows, texts=whole)).frame
    return frame.assign(**{name: written[name] for name in whole if _are_codes(written[name].dropna())})


def _are_whole(column: "pd.Series[Any]") -> bool:
    # those with gaps come as floats
    is_number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    return is_number and bool((column.dropna() % 1 == 0).all())


def _are_codes(written: "pd.Series[Any]") -> bool:
    return bool(written.str.fullmatch(r"[0-9]+").all() and written.str.match(r"0[0-9]").any())


def chunks(path: Path, *, rows: int = CHUNK_ROWS, texts: Collection[str] = ()) -> Iterator[Chunk]:
    """Yield the rows of the file in order, at most `rows` at a time; columns in `texts` stay text in a CSV.

    Raises Misconfigured, naming the file, when it cannot be read or its format is unknown.
    """
    reader = _READERS[_format(path)]
    try:
        _check_header(path)
        with path.open("rb") as raw, _unpacked(path, raw) as content:
            size = max(path.stat().st_size, 1)
            for frame in reader(content, rows, texts):
                yield Chunk(frame, raw.tell() / size)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, pa.ArrowException) as error:
        raise Misconfigured(f"{path}: no valid {_format(path)} file: {error}") from error


def _format(path: Path) -> str:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    for name, suffixes in FORMATS.items():
        if suffix.lower() in suffixes:
            return name
    expected = ", ".join(suffix for suffixes in FORMATS.values() for suffix in suffixes)
    raise Misconfigured(f"{path}: unknown format; expected a name that ends in one of {expected}, or those with .gz")


def _unpacked(path: Path, raw: BinaryIO) -> AbstractContextManager[BinaryIO]:
    if path.suffix != ".gz":
        return nullcontext(raw)
    return cast("AbstractContextManager[BinaryIO]", gzip.GzipFile(fileobj=raw))


def _check_header(path: Path) -> None:
    """Raise ValueError for a CSV with columns that cannot be told apart: pandas would make names up for them."""
    if _format(path) != "csv":
        return
    with path.open("rb") as raw, _unpacked(path, raw) as content:
        lines = csv.reader(TextIOWrapper(content, encoding="utf-8-sig", newline=""))
        header = next((line for line in lines if line), [])
    blank = [str(place) for place, name in enumerate(header, start=1) if not name.strip()]
    twice = sorted({name for name in header if header.count(name) > 1} - {""})
    between = next((mark for mark in _OTHER_MARKS if len(header) == 1 and mark in header[0]), None)
    if between:
        raise ValueError(
            f"expected commas between the columns, but the first line has one column with {between!r} in it"
        )
    if blank:
        raise ValueError(f"expected a name for each column, but number {', '.join(blank)} has none")
    if twice:
        raise ValueError(f"expected columns of different names, but these come twice: {', '.join(twice)}")


def _csv(content: BinaryIO, rows: int, texts: Collection[str]) -> Iterator[pd.DataFrame]:
    frames = pd.read_csv(
        content,
        chunksize=rows,
        keep_default_na=False,
        na_values=list(MISSING),
        dtype=dict.fromkeys(texts, "str"),
        low_memory=False,
    )
    with frames:
        yield from frames


def _json_lines(content: BinaryIO, rows: int, _texts: Collection[str]) -> Iterator[pd.DataFrame]:
    lines = ((number, line) for number, line in enumerate(content, start=1) if line.strip())
    while batch := list(islice(lines, rows)):
        yield pd.DataFrame([_object(number, line) for number, line in batch])


def _object(number: int, line: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"line {number}: expected a JSON object")  # noqa: TRY004 - what the file holds is wrong, not our call
    return value


def _parquet(content: BinaryIO, rows: int, _texts: Collection[str]) -> Iterator[pd.DataFrame]:
    source = BytesIO(content.read()) if isinstance(content, gzip.GzipFile) else content
    for batch in pq.ParquetFile(source).iter_batches(batch_size=rows):
        yield batch.to_pandas()


_READERS: Final = {"csv": _csv, "json lines": _json_lines, "parquet": _parquet}
