"""The subscriber is light: a service that imports it does not get the worker's libraries along."""

import subprocess
import sys

HEAVY = (
    "faust",
    "mode",
    "aiokafka",
    "fastapi",
    "sqlalchemy",
    "alembic",
    "numba",
    "river",
    "sklearn",
    "skops",
    "pandas",
)


def test_importing_the_subscriber_brings_no_heavy_library() -> None:
    """In a fresh interpreter: in this one other tests have imported them all."""
    check = f"import sys, stream_app.subscriber; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_serving_a_river_model_needs_no_compiler() -> None:
    """Numba costs half a second and a cache folder; prediction goes through River alone."""
    check = """if True:
        import sys
        import numpy as np
        from river import linear_model, preprocessing
        from stream_app.core.shape import Shape
        from stream_app.storage.packing import Description, pack_online, unpack
        from stream_app.values import Features, Task
        shape = Shape(task=Task.BINARY, numeric=("a",), categorical=(), classes=(False, True))
        about = Description(
            model="m", version="1.1", algorithm="r", schema_json="{}", shape=shape, trained_through_seq=1
        )
        rows = Features(numeric=np.ones((2, 1)), categorical=np.empty((2, 0), dtype=object))
        unpack(pack_online(about, preprocessing.StandardScaler() | linear_model.LogisticRegression(), rows)).check()
        print("numba" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
