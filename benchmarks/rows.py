"""The records that every contestant learns: the electricity data over and over, each record with an id of its own."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import orjson
import pandas as pd

ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = ROOT / "stream_app" / "data" / "electricity.csv.gz"
#: Rows of the file; whole passes make accuracies of runs of different length comparable.
FILE_ROWS: Final = 45_312
MODEL: Final = "electricity"
TARGET: Final = "class"


def values(count: int) -> Iterator[bytes]:
    """Yield `count` envelopes as JSON, about 216 bytes each."""
    frame = pd.read_csv(FILE)
    labels = frame.pop(TARGET).tolist()
    # what an id is followed by is the same in each pass: only the ids are new
    tails = [
        orjson.dumps({"model": MODEL, "features": features, "label": label})[1:]
        for features, label in zip(frame.to_dict("records"), labels, strict=True)
    ]
    for number, tail in enumerate(islice(cycle(tails), count)):
        yield b'{"event_id":"%s-%09d",%s' % (MODEL.encode(), number, tail)
