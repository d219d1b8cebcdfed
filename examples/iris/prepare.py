# noqa: INP001 - a script, not a package
"""Write data/raw/iris.csv from scikit-learn's copy: 150 flowers, shuffled, since the original is sorted by species.

A stream that shows one species after the other would make every learner look good until the species changes.
"""

from pathlib import Path
from typing import Final

from sklearn.datasets import load_iris

SEED: Final = 1
NAMES: Final = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def table() -> str:
    """Return the CSV: four measures in centimetres and the species."""
    iris = load_iris(as_frame=True)
    frame = iris.data.set_axis(NAMES, axis="columns").assign(species=iris.target_names[iris.target])
    text: str = frame.sample(frac=1, random_state=SEED).to_csv(index=False)
    return text


if __name__ == "__main__":
    (Path(__file__).parent / "data" / "raw" / "iris.csv").write_text(table(), encoding="utf-8")
