"""From rounds to ratios: medians, spreads, and the targets beside them."""

import operator
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.contestants import REQUIREMENTS, Round
from benchmarks.endurance import Accompanied, Grown

#: Libraries whose releases explain a number.
LIBRARIES: Final = ("river", "confluent-kafka", "aiokafka", "faust-streaming", "orjson", "numpy", "numba", "pyarrow")


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio should be."""

    sign: str
    value: float

    def is_met(self, ratio: float) -> bool:
        """Return whether it is."""
        compare: Callable[[float, float], bool] = {"≥": operator.ge, "≤": operator.le}[self.sign]
        return compare(ratio, self.value)


TARGETS: Final[Mapping[str, Target]] = {
    "durable_worker_vs_handwritten": Target("≥", 2.0),
    "durable_worker_vs_memory_loop": Target("≥", 1.8),
    "durable_worker_vs_quix": Target("≥", 3.5),
    "durable_worker_vs_plain_faust": Target("≥", 15.0),
    "river_worker_vs_handwritten": Target("≥", 1.0),
    "during_retrain_ratio": Target("≥", 0.9),
    "recovery_10x_log_ratio": Target("≤", 1.2),
    "memory_ratio": Target("≤", 1.2),
}
#: Which contestants' rates the first of them compare.
PAIRS: Final = {
    "durable_worker_vs_handwritten": ("worker_compiled", "handwritten"),
    "durable_worker_vs_memory_loop": ("worker_compiled", "memory_loop"),
    "durable_worker_vs_quix": ("worker_compiled", "quix"),
    "durable_worker_vs_plain_faust": ("worker_compiled", "plain_faust"),
    "river_worker_vs_handwritten": ("worker_river", "handwritten"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that was measured, by name, a value for each round."""

    rounds: dict[str, list[Round]] = field(default_factory=dict)
    #: "retrain" and "unrelated"
    beside: dict[str, list[Accompanied]] = field(default_factory=dict)
    #: "1x" and "10x"
    grown: dict[str, list[Grown]] = field(default_factory=dict)

    def samples(self) -> dict[str, list[float]]:
        """Return each quantity's values, its unit in its name where it is not records a second."""
        return {
            **{name: [r.rate for r in rounds] for name, rounds in self.rounds.items()},
            **{f"worker_beside_{name}": [a.round.rate for a in found] for name, found in self.beside.items()},
            **{f"recovery_{name}_s": [g.recovery_s for g in found] for name, found in self.grown.items()},
            **{f"memory_{name}_mb": [g.peak_bytes / 1e6 for g in found] for name, found in self.grown.items()},
        }

    def ratios(self) -> dict[str, float | None]:
        """Return every ratio of medians; None for what was not run."""
        medians = {name: median(values) for name, values in self.samples().items()}
        pairs = {
            **PAIRS,
            "during_retrain_ratio": ("worker_beside_retrain", "worker_beside_unrelated"),
            "recovery_10x_log_ratio": ("recovery_10x_s", "recovery_1x_s"),
            "memory_ratio": ("memory_10x_mb", "memory_1x_mb"),
        }
        return {
            name: medians[one] / medians[other] if one in medians and other in medians else None
            for name, (one, other) in pairs.items()
        }


def document(results: Results) -> dict[str, Any]:
    """Return what `--json` prints."""
    samples = results.samples()
    return {
        **{name: _short(ratio) for name, ratio in results.ratios().items()},
        "medians": {name: _short(median(values)) for name, values in samples.items()},
        "spreads": {name: [_short(min(values)), _short(max(values))] for name, values in samples.items()},
        "accuracies": {name: rounds[-1].accuracy for name, rounds in results.rounds.items()},
        "records": {name: rounds[-1].records for name, rounds in results.rounds.items()},
        "log_records": {name: found[-1].records for name, found in results.grown.items()},
        "rows_behind_checkpoint": {n: [g.behind_checkpoint for g in found] for n, found in results.grown.items()},
        "retraining_share": [_short(a.retraining) for a in results.beside.get("retrain", [])],
        "rounds": max(map(len, samples.values()), default=0),
        "cores": os.cpu_count(),
        "versions": _versions(),
    }


def show(results: Results) -> None:
    """Print tables for people."""
    console = Console()
    console.print(_quantities(results))
    console.print(_comparisons(results.ratios()))
    console.print(f"{os.cpu_count()} cores, " + ", ".join(f"{n} {v}" for n, v in _versions().items()), style="dim")


def _quantities(results: Results) -> Table:
    table = Table("measured", "median", "spread", "records", "accuracy", title="records/s, seconds, megabytes")
    for name, values in results.samples().items():
        rounds: Sequence[Round] = results.rounds.get(name, [])
        shown = [f"{rounds[-1].records:,}", f"{rounds[-1].accuracy:.6f}"] if rounds else ["", ""]
        table.add_row(name, _text(median(values)), f"{_text(min(values))} - {_text(max(values))}", *shown)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _comparisons(ratios: Mapping[str, float | None]) -> Table:
    table = Table("ratio", "measured", "target", "")
    for name, ratio in ratios.items():
        if ratio is not None:
            target = TARGETS[name]
            verdict = "[green]met[/]" if target.is_met(ratio) else "[red]missed[/]"
            table.add_row(name, f"{ratio:.2f}", f"{target.sign} {target.value}", verdict)
    return table


def _versions() -> dict[str, str]:
    quix = re.search(r"^quixstreams==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    found = {name: version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found, "quixstreams": quix.group(1) if quix else ""}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - three digits are enough
