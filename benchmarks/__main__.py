"""`scripts/bench`: everything in one run on a real broker, round by round."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks import broker, contestants, endurance, report, rows

#: Whole passes over the data; the fastest contestant then takes five seconds or more.
RECORDS: Final = 27 * rows.FILE_ROWS
#: The shorter of the two logs whose recovery and memory are compared; the other is ten times as long.
LOG_RECORDS: Final = 200_000
PARTS: Final = (*contestants.NAMES, "retrain", "logs")


def main() -> None:
    """Run what was asked for and print it."""
    options = parse(sys.argv[1:])
    try:
        results = measure(options)
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    if options.json:
        print(json.dumps(report.document(results)))
    else:
        report.show(results)


def measure(options: argparse.Namespace) -> report.Results:
    """Return what was measured; raises RuntimeError when a contestant fails."""
    results = report.Results()
    log_records = min(LOG_RECORDS, options.records)
    with ExitStack() as stack:
        bootstrap = stack.enter_context(broker.running())
        if names := [name for name in contestants.NAMES if name in options.only]:
            topic = _filled(stack, bootstrap, options.records)
            for number in range(options.rounds):
                _race(results, names, bootstrap, topic, options.records, number)
        if {"retrain", "logs"} & set(options.only):
            long = _filled(stack, bootstrap, 10 * log_records)
            short = _filled(stack, bootstrap, log_records)
            for number in range(options.rounds):
                if "logs" in options.only:
                    _grow(results, bootstrap, {"1x": (short, log_records), "10x": (long, 10 * log_records)}, number)
                if "retrain" in options.only:
                    _accompany(results, bootstrap, long, 10 * log_records, number)
    return results


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options; leaves with code 2 for wrong ones."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--records", type=positive, default=RECORDS, metavar="N", help=f"default: {RECORDS}")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="default: 3")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME", help=", ".join(PARTS))
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Return a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return number


def _filled(stack: ExitStack, bootstrap: str, count: int) -> str:
    say(f"producing {count:,} records …")
    return stack.enter_context(broker.filled(bootstrap, count))


def _race(results: report.Results, names: Sequence[str], bootstrap: str, topic: str, count: int, number: int) -> None:
    for name in names:
        done = contestants.run(name, bootstrap, topic, count)
        results.rounds.setdefault(name, []).append(done)
        say(f"round {number + 1}: {name}: {done.rate:,.0f} records/s, accuracy {done.accuracy:.6f}")


def _accompany(results: report.Results, bootstrap: str, topic: str, count: int, number: int) -> None:
    for name, companion in {"retrain": endurance.retrain, "unrelated": endurance.unrelated}.items():
        done = endurance.beside(companion, bootstrap, topic, count)
        results.beside.setdefault(name, []).append(done)
        share = f", a retrain ran {done.retraining:.0%} of the time" if name == "retrain" else ""
        say(f"round {number + 1}: worker beside {name}: {done.round.rate:,.0f} records/s{share}")


def _grow(results: report.Results, bootstrap: str, logs: dict[str, tuple[str, int]], number: int) -> None:
    for name, (topic, count) in logs.items():
        done = endurance.grow(bootstrap, topic, count)
        results.grown.setdefault(name, []).append(done)
        say(
            f"round {number + 1}: log {name}: at most {done.peak_bytes / 1e6:,.0f} MB, "
            f"ready again {done.recovery_s:.1f} s after a kill, {done.behind_checkpoint:,} rows behind a checkpoint"
        )


def say(text: str) -> None:
    """Tell how far it has come; results go to standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
