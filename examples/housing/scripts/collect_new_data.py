# noqa: INP001 - a script, not a package
"""Write new samples to new_data.json, as an array: what a build sends to the retrain API.

python scripts/collect_new_data.py [FILE] [--rows 100]    FILE: a CSV with the columns of the data file, also .gz
"""

import argparse
import json
from pathlib import Path
from typing import Final

import pandas as pd

DATA: Final = Path(__file__).parents[1] / "data" / "raw" / "housing.csv.gz"
OUTPUT: Final = Path("new_data.json")


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description="Write new samples to new_data.json.")
    parser.add_argument("file", nargs="?", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=100, help="newest rows of the file (default: 100)")
    wanted = parser.parse_args()
    newest = pd.read_csv(wanted.file).tail(wanted.rows)
    OUTPUT.write_text(json.dumps(newest.to_dict("records"), indent=1), encoding="utf-8")
    print(f"{len(newest)} samples in {OUTPUT}")  # noqa: T201 - it is a script


if __name__ == "__main__":
    main()
