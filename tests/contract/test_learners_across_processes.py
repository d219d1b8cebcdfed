"""A learner is the same in every process, whatever the hash seed; and reading a model needs no compiler."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Prints the hash of each learner's outputs over mixed rows with missing values, categories beyond the cap included.
LEARN = """
import numpy as np
from stream_app.core.models import build
from stream_app.core.probes import probe_hash
from stream_app.core.shape import Shape
from stream_app.model_settings import LearnerSettings
from stream_app.values import Features, Task

n = 300
steps = np.arange(n)
numeric = np.column_stack([np.sin(steps * (i + 1)) * 10.0**i for i in range(4)])
numeric[steps % 11 == 0, 1] = np.nan
categorical = np.array([[f"town-{s * s % 17}", None if s % 7 == 0 else f"plan-{s % 5}"] for s in steps], dtype=object)
labels = ((np.sin(steps) > 0) ^ (steps % 5 == 0)).astype(np.float64)
shape = Shape(
    task=Task.BINARY,
    numeric=("a", "b", "c", "d"),
    categorical=("town", "plan"),
    classes=("no", "yes"),
)
names = (
    "linear_model.LogisticRegression",
    "tree.HoeffdingAdaptiveTreeClassifier",
    "forest.ARFClassifier",
    "naive_bayes.GaussianNB",
    "neighbors.KNNClassifier",
)
for name in names:
    for encode in ("one_hot", "ordinal"):
        learner = LearnerSettings(name=name, encode=encode, max_categories=8)
        contender = build(shape, learner, seed=3)
        first = contender.advance(Features(numeric=numeric[:150], categorical=categorical[:150]), labels[:150])
        contender.restore(contender.snapshot())
        second = contender.advance(Features(numeric=numeric[150:], categorical=categorical[150:]), labels[150:])
        print(name, encode, probe_hash([first, second]))
"""


def run(code: str, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_hash_seed_of_a_process_changes_no_bit() -> None:
    one, other = (run(LEARN, seed) for seed in ("1", "4242"))
    assert one == other
    assert len(set(one.split())) == 10 + 5 + 2


def test_reading_models_and_publishing_them_needs_no_compiler() -> None:
    code = "import sys, stream_app.core.models, stream_app.core.outputs; print('numba' in sys.modules)"
    assert run(code, "0").strip() == "False"
