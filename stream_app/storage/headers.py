"""A window's header as the JSON of its row."""

import orjson
from sqlalchemy import RowMapping

from stream_app.values import Closing, ControlEntry, Counts, Partition, WindowHeader


def encode_header(header: WindowHeader, present: list[str]) -> str:
    """Return what has no column of its own; `present` is that of rows_codec."""
    return orjson.dumps(
        {
            "closing": header.closing,
            "positions": [[p.incarnation, p.topic, p.number, offset] for p, offset in header.positions.items()],
            "origin_marks": header.origin_marks,
            "counts": header.counts,
            "schema_id": header.schema_id,
            "fold_digest": header.fold_digest,
            "control": header.control,
            "present": present,
        }
    ).decode()


def decode_header(model: str, row: RowMapping) -> tuple[WindowHeader, list[str]]:
    """Return the header and `present` from a row of `windows`."""
    read = orjson.loads(row["header"])
    header = WindowHeader(
        model=model,
        epoch=row["epoch"],
        seq=row["seq"],
        closed_at=row["closed_at"],
        closing=Closing(read["closing"]),
        positions={Partition(incarnation=i, topic=t, number=n): offset for i, t, n, offset in read["positions"]},
        origin_marks={origin: (offset, index) for origin, (offset, index) in read["origin_marks"].items()},
        counts=Counts(**read["counts"]),
        schema_id=read["schema_id"],
        fold_digest=read["fold_digest"],
        rows_digest=row["rows_digest"],
        control=tuple(ControlEntry(**entry) for entry in read["control"]),
    )
    return header, read["present"]
