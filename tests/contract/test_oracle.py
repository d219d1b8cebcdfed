"""The whole worker equals ten plain lines of River: every output, the accuracy, the final predictions, bit for bit."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from river import base

from stream_app.core.fold import Fold
from stream_app.core.outputs import predict_plain
from stream_app.values import Floats, FoldReport, Task, Window
from stream_app.worker.replaying import online_outputs
from tests.contract import streams
from tests.contract.proofs import proved, steady
from tests.contract.streams import Record, Stream
from tests.contract.working import PLACE, Bench, bench, run_of
from tests.unit.river_oracle import bits, expected, run_river

Cut = Callable[[Sequence[Record]], Sequence[Sequence[Record | bytes]]]


def in_one_run(rows: Sequence[Record]) -> Sequence[Sequence[Record | bytes]]:
    return [rows]


def in_odd_runs(rows: Sequence[Record]) -> Sequence[Sequence[Record | bytes]]:
    """Runs that begin and end in the middle of windows."""
    return [rows[at : at + 613] for at in range(0, len(rows), 613)]


def in_arrays(rows: Sequence[Record]) -> Sequence[Sequence[Record | bytes]]:
    """Messages of eleven records each, in runs of thirty messages."""
    messages = [orjson.dumps(rows[at : at + 11]) for at in range(0, len(rows), 11)]
    return [messages[at : at + 30] for at in range(0, len(messages), 30)]


#: How the stream comes in, and how many rows a window takes.
CUTS = {"one run": (in_one_run, 100_000), "odd runs": (in_odd_runs, 997), "arrays": (in_arrays, 2_000)}
FINE = (in_arrays, 50)
SMALL = (
    streams.liver,
    streams.constant,
    streams.extreme,
    streams.one_class,
    streams.far_values,
    streams.three_classes,
)


@cache
def oracle(make: Callable[[], Stream]) -> tuple[Stream, Floats, base.Estimator]:
    """Return the stream, what ten lines of River said just before learning each row, and their model."""
    stream = make()
    model = stream.pipeline()
    said = run_river(model, stream.rows, stream.labels, stream.shape)
    return stream, expected(said, stream.shape), model


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Floats]:
    """Return the list that hears every output that a fold gives from now on."""
    outputs: list[Floats] = []
    apply = Fold.apply

    def heard(self: Fold, window: Window) -> FoldReport:
        report = apply(self, window)
        outputs.extend([self.outputs] if len(self.outputs) else [])
        return report

    monkeypatch.setattr(Fold, "apply", heard)
    return outputs


class Trial:
    """A worker over a stream, cut in some way, beside the oracle."""

    def __init__(self, root: Path, said: list[Floats]) -> None:
        self.root = root
        self.said = said

    async def run(self, make: Callable[[], Stream], cut: tuple[Cut, int], **online: Any) -> None:  # noqa: ANN401 - settings
        stream, outputs, model = oracle(make)
        features = {name: f for name, f in stream.features.items() if not name.startswith("previous_label_")}
        section = {"task": stream.task.value, "features": features, "classes": stream.classes, "online": online}
        with bench(steady(self.root, **section, window={"max_rows": cut[1], "checkpoint_windows": 20})) as made:
            await self._learn(made, stream, cut[0])
            assert bits(np.concatenate(self.said)) == bits(outputs)
            self._check_log(made, stream, outputs)
            self._check_final(made, model)

    async def _learn(self, made: Bench, stream: Stream, cut: Cut) -> None:
        await made.handler.assigned([PLACE])
        offset = 0
        for run in cut(stream.records):
            await made.take(run_of(run, offset=offset))
            offset += len(run)
        await made.handler.drain()

    @staticmethod
    def _check_log(made: Bench, stream: Stream, outputs: Floats) -> None:
        """What is stored says the same, and folds to the same."""
        assert proved(made).counts["learned"] == len(stream.records)
        newest = made.rooms.stores.log.metrics("m", newest=1)[0]
        replayed = online_outputs(made.rooms.stores, made.rooms.fold("m"), after=0, through=newest["seq"])
        assert bits(replayed[2]) == bits(outputs)
        if stream.task is not Task.REGRESSION:
            assert newest["prequential"]["accuracy"] == accuracy(outputs, stream)

    @staticmethod
    def _check_final(made: Bench, model: base.Estimator) -> None:
        """The learner in hands and the River pipeline that it publishes predict what the oracle's model predicts."""
        (owner,) = made.handler._stations[PLACE].owners.values()
        rows = owner.fold.probe_with_known_labels()
        right = predict_plain(model, owner.fold.shape, rows)
        assert bits(owner.fold.online.predict(rows)) == bits(right)
        assert bits(predict_plain(owner.fold.online.plain(), owner.fold.shape, rows)) == bits(right)


def accuracy(outputs: Floats, stream: Stream) -> float:
    codes = np.array([stream.shape.classes.index(record["y"]) for record in stream.records])
    answers = outputs > 0.5 if outputs.ndim == 1 else outputs.argmax(axis=1)
    return int((answers == codes).sum()) / len(codes)


@pytest.fixture
def trial(tmp_path: Path, said: list[Floats]) -> Trial:
    return Trial(tmp_path, said)


@pytest.mark.parametrize("adapter", ["river", "compiled"])
@pytest.mark.parametrize("cut", CUTS)
async def test_electricity_whole(trial: Trial, adapter: str, cut: str) -> None:
    await trial.run(streams.electricity, CUTS[cut], adapter=adapter)


@pytest.mark.parametrize("adapter", ["river", "compiled"])
async def test_housing(trial: Trial, adapter: str) -> None:
    await trial.run(streams.housing, CUTS["odd runs"], adapter=adapter)


@pytest.mark.parametrize("adapter", ["river", "compiled"])
@pytest.mark.parametrize("make", SMALL, ids=lambda make: make.__name__)
async def test_missing_constant_huge_tiny_and_one_sided_streams(
    trial: Trial, make: Callable[[], Stream], adapter: str
) -> None:
    await trial.run(make, FINE, adapter=adapter)


@pytest.mark.parametrize("make", [streams.contract, streams.churn], ids=lambda make: make.__name__)
async def test_categories_and_blank_numbers(trial: Trial, make: Callable[[], Stream]) -> None:
    await trial.run(make, FINE)


@cache
def lagged() -> Stream:
    return streams.lagged(count=3, delay=5)


@pytest.mark.parametrize("adapter", ["river", "compiled"])
async def test_previous_labels_are_those_that_were_known(trial: Trial, adapter: str) -> None:
    await trial.run(lagged, CUTS["odd runs"], adapter=adapter, previous_labels=3, label_delay=5)
