"""`./scripts/faults`: run the scenes, print exact numbers, and end with 3 if a promise was broken."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from os import environ
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from faults import scenes
from faults.fleet import ROOT
from faults.scenes import Outcome, Run

#: A check ran, and what it checked is wrong.
CHECK_FAILED: Final = 3
#: Columns of the table of results; a pipe says that it has 80.
WIDTH: Final = 130
#: Crash points at which a mutant must be caught: what it loses lies between the position and the commit.
MUTANT_POINTS: Final = {"buffered": 5, "commit_open": 4}
#: Late enough that the first promotion is answered: a window that answers it again is refused for that already.
WAKING_POINT: Final = "buffered:25"


def mutants(run: Run) -> Outcome:
    """Run two broken workers through the scene that must catch each; a suite that misses one proves nothing."""
    outcome = Outcome(name="mutants", faults="the suite itself")
    crashed, woken = _crashing(_mutated(run, "position-before-commit")), _waking(_mutated(run, "no-epoch-check"))
    # only if all of the rest was taken in afterwards is a missing record one that the mutant lost
    caught = {
        "position-before-commit": _blames(crashed, "I1") if not _blames(crashed, "I8") else [],
        "no-epoch-check": _blames(woken, "I2", "I7"),
    }
    outcome.numbers["caught"] = caught
    outcome.problems += [f"the mutant {name} was not caught" for name, found in caught.items() if not found]
    return outcome


def _mutated(run: Run, mutant: str) -> Run:
    return replace(run, folder=run.folder / mutant, entry=("-m", "faults.mutants", mutant))


def _crashing(run: Run) -> Outcome:
    return scenes.crash_points(run, MUTANT_POINTS)


def _waking(run: Run) -> Outcome:
    return scenes.zombies(run, (WAKING_POINT,))


def _blames(outcome: Outcome, *invariants: str) -> list[str]:
    return [problem for problem in outcome.problems if problem.startswith(invariants)]


SCENES: Final[Mapping[str, Callable[[Run], Outcome]]] = {
    "crash-points": scenes.crash_points,
    "kill-loop": scenes.kill_loop,
    "zombies": scenes.zombies,
    "broken-stream": scenes.broken_stream,
    "no-dead-letter-topic": scenes.no_dead_letter_topic,
    "mended-letters": scenes.mended,
    "gate-pass": scenes.gate_pass,
    "mutants": mutants,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenes that the arguments ask for and return the exit code."""
    asked = _parser().parse_args(arguments)
    # as an exception, so that workers and broker end with us whichever way we are asked to leave
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(stderr=True)
    with _broker() as bootstrap, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        kept = asked.keep or Path(folder)
        run = Run(bootstrap=bootstrap, folder=kept, seconds=asked.seconds, workers=asked.workers, seed=asked.seed)
        outcomes = [_play(run, name, console) for name in asked.only or SCENES]
    result = _result(asked.seed, outcomes)
    if asked.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _show(outcomes, Console(width=max(WIDTH, Console().width)))
    return 0 if result["ok"] else CHECK_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the kill loop lasts (default: 60)")
    parser.add_argument("--workers", type=int, default=3, help="workers of the kill loop (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="of killer and records (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", action="append", choices=[*SCENES], help="only this scene; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder in which logs and storage of the workers are kept")
    return parser


def _play(run: Run, name: str, console: Console) -> Outcome:
    console.print(f"{name} …")
    start = time.monotonic()
    outcome = SCENES[name](run)
    outcome.seconds = round(time.monotonic() - start, 1)
    console.print(f"{name}: {'survived' if outcome.ok else 'FAILED'} in {outcome.seconds:g} s")
    for problem in outcome.problems:
        console.print(f"  {problem}", style="red", markup=False)
    return outcome


def _result(seed: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    def total(name: str) -> int:
        return sum(outcome.numbers.get(name, 0) for outcome in outcomes)

    return {
        "ok": all(outcome.ok for outcome in outcomes),
        "seed": seed,
        **{name: total(name) for name in ("sent", "in_the_log", "duplicates", "dead_lettered", "lost", "twice")},
        "scenes": [{**asdict(outcome), "ok": outcome.ok} for outcome in outcomes],
    }


def _show(outcomes: Sequence[Outcome], console: Console) -> None:
    columns = ("sent", "in_the_log", "duplicates", "dead_lettered", "forwarded", "lost", "twice", "epochs")
    table = Table("scene", "faults", "survived", *columns, box=None)
    for outcome in outcomes:
        numbers = (str(outcome.numbers.get(name, "")) for name in columns)
        table.add_row(outcome.name, outcome.faults, "yes" if outcome.ok else "NO", *numbers)
    console.print(table)
    for outcome in outcomes:
        for name in ("crash_points", "attacks", "exits", "caught"):
            if name in outcome.numbers:
                console.print(f"{outcome.name}, {name}: {json.dumps(outcome.numbers[name])}", markup=False)


@contextmanager
def _broker() -> Iterator[str]:
    """Yield the address of a real broker: the one that is named, else one of its own, which ends with the suite."""
    named = environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    command = [sys.executable, str(ROOT / "scripts" / "kafka"), "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as broker:  # noqa: S603 - our own command
        try:
            address = broker.stdout.readline().strip() if broker.stdout else ""
            if not address:
                sys.exit("faults: no broker; set KAFKA_BOOTSTRAP_SERVERS, or see what scripts/kafka said above")
            yield address
        finally:
            broker.terminate()


if __name__ == "__main__":
    sys.exit(main())
