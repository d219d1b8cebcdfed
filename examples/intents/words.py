# noqa: INP001 - a script, not a package
"""Turn texts into numbers: how often each of 256 groups of words comes in a text.

A word's group is its hash, so nothing is fitted and nothing can differ between training and serving.
    python words.py                        write data/words.csv.gz from data/texts.csv.gz
    python words.py "what is my balance"   print the features of a text as JSON
"""

import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer

DATA: Final = Path(__file__).parent / "data"
GROUPS: Final = 256
#: Also words of one letter, which scikit-learn leaves out unless told.
WORD: Final = r"\b\w+\b"
#: Rows kept of the texts, drawn with this seed: the file is sorted by intent, and a stream is not.
ROWS: Final = 9_000
SEED: Final = 1
NAMES: Final = tuple(f"w{group:03}" for group in range(GROUPS))


def features(texts: Sequence[str]) -> pd.DataFrame:
    """Return int[n, 256] with the names of the features: how many words of each group a text has."""
    counts = HashingVectorizer(
        n_features=GROUPS, alternate_sign=False, norm=None, token_pattern=WORD, dtype="int64"
    ).transform(texts)
    return pd.DataFrame(counts.toarray(), columns=list(NAMES))


def table() -> pd.DataFrame:
    """Return the features and intents of the drawn texts."""
    drawn = pd.read_csv(DATA / "texts.csv.gz").sample(n=ROWS, random_state=SEED).reset_index(drop=True)
    return features(drawn["text"].tolist()).assign(intent=drawn["intent"])


def main(arguments: Sequence[str]) -> None:
    """Do what the module says."""
    if arguments:
        print(json.dumps(features([" ".join(arguments)]).iloc[0].to_dict()))  # noqa: T201 - it is what was asked for
        return
    # without a time in it the same rows are the same bytes
    with (
        (DATA / "words.csv.gz").open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
    ):
        packed.write(table().to_csv(index=False).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
