"""The scenes of the suite: each breaks something, lets the system recover, and asks the verifier."""

import json
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.audience import Audience
from faults.evidence import gather
from faults.fleet import HONEST, Fleet, Worker, wait_until
from faults.killer import Killer
from faults.stage import MODELS, PARTITIONS, RECOVERED_S, SESSION_S, Stage, steady
from faults.verify import Verdict
from faults.workload import POISON, good

#: Messages a second of the kill loop: a backlog after each attack, and no more than three workers clear in time.
RATE: Final = 150.0
#: Messages sent at a time while a crash is waited for.
BURST: Final = 30
#: Seconds that a worker may take to reach its crash point, imports and first assignment included.
CRASH_WITHIN_S: Final = 45.0
KILLED: Final = -9
#: The pass at which the crash comes; the later ones leave windows and checkpoints behind.
PASSES: Final[Mapping[str, int]] = {
    "buffered": 3,
    "file_written": 2,
    "file_durable": 3,
    "commit_open": 4,
    "committed": 5,
    "learn_half": 3,
    "effects": 4,
    "ckpt_tmp": 1,
    "ckpt_renamed": 2,
    "outbox": 3,
    "sent": 1,
    "pre_ack": 4,
    "recover_started": 1,
    "recover_folded": 1,
}
#: Where a worker is put to sleep; not inside the transaction, where it would keep every other from the database.
SLEEP_AT: Final = ("buffered:4", "file_durable:2", "committed:3", "effects:3", "ckpt_renamed:1")
#: Exit codes: another owner exists; broker or topic is away.
FENCED: Final = 70
#: Exit code of a worker whose partition was halted: starting it again would not help.
HALTED: Final = 78
TEMPORARY: Final = 75
#: Tries to put a worker to sleep outside of any transaction.
SLEEPS: Final = 10
#: Seconds for a full retrain of each model.
TRAINED_WITHIN_S: Final = 120.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a scene."""

    name: str
    #: numbers of the table of faults that it covers
    faults: str
    numbers: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return not self.problems

    def take(self, verdict: Verdict) -> None:
        """Add the verifier's verdict."""
        self.numbers |= verdict.numbers
        self.problems += verdict.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the command line asked for."""

    bootstrap: str
    folder: Path
    seconds: float
    workers: int
    seed: int
    #: how workers are started: honest, or as a mutant
    entry: Sequence[str] = HONEST

    def stage(self, name: str, **options: Any) -> Stage:  # noqa: ANN401 - options of a stage
        """Return a new stage for a scene."""
        return Stage(bootstrap=self.bootstrap, folder=self.folder / name, seed=self.seed, **options)


def crash_points(run: Run, points: Mapping[str, int] = PASSES) -> Outcome:
    """Kill a worker at each crash point in turn, each time over the log that the one before left."""
    outcome = Outcome(name="crash points", faults="1-12")
    stage = run.stage("crash-points")
    workload, sender, hits = stage.workload(), stage.sender(), {}

    def feed() -> None:
        sender.send([workload.next() for _ in range(BURST)])

    for point, passes in points.items():
        worker = _worker(run, stage, f"crash-{point}", {"STREAM_APP_CRASH": f"{point}:{passes}"})
        worker.start()
        wait_until(lambda: worker.wait(0.2) is not None, CRASH_WITHIN_S, meanwhile=feed)  # noqa: B023 - called at once
        hits[point] = int(worker.end() == KILLED)
    sender.flush()
    outcome.numbers["crash_points"] = hits
    outcome.problems += [f"crash point {point} was never reached" for point, hit in hits.items() if not hit]
    _recover_and_verify(stage, Fleet(1, stage.config, stage.folder), outcome)
    return outcome


def kill_loop(run: Run) -> Outcome:
    """Kill, end and put to sleep workers at random while records stream in."""
    outcome = Outcome(name="kill loop", faults="14, 17, 18, 24, 27, 30, 31")
    stage = run.stage("kill-loop")
    fleet = Fleet(run.workers, stage.config, stage.folder, run.entry)
    killer = Killer(fleet, run.seed, SESSION_S + 2)

    def meanwhile() -> None:
        killer.look(time.monotonic())
        fleet.look()

    with stage.observing(), Audience(stage.config) as audience:
        fleet.start()
        steady(stage, RATE, run.seconds, meanwhile=meanwhile)
        killer.rest()
        _recover_and_verify(stage, fleet, outcome)
    outcome.problems += audience.problems()
    outcome.numbers |= {"answers": audience.answers, "reloads": sum(map(len, audience.versions.values()))}
    exits = {str(code): count for code, count in sorted(fleet.exits.items())}
    outcome.numbers |= {"attacks": dict(killer.attacks), "starts": fleet.starts, "exits": exits}
    return outcome


def zombies(run: Run, points: Sequence[str] = SLEEP_AT) -> Outcome:
    """Put a worker to sleep at a crash point until another has its models, then wake it."""
    outcome = Outcome(name="zombies", faults="17, 18")
    stage = run.stage("zombies")
    workload, sender = stage.workload(), stage.sender()

    def feed() -> None:
        sender.send([workload.next() for _ in range(BURST)])

    codes: dict[str, int | str | None] = {}
    with stage.observing():
        for point in points:
            codes[point] = _sleep_and_wake(run, stage, point, feed)
        sender.flush()
        _recover_and_verify(stage, Fleet(1, stage.config, stage.folder), outcome)
    outcome.numbers["exits"] = codes
    outcome.problems += [
        f"the worker that slept at {point} ended with {code}, expected {FENCED}"
        for point, code in codes.items()
        if code != FENCED
    ]
    return outcome


def broken_stream(run: Run) -> Outcome:
    """Send nothing but poison: the worker must stop and say so, not drain the stream into the dead letters."""
    outcome = Outcome(name="broken stream", faults="28")
    stage, sent = run.stage("broken-stream"), 4_000
    workload, sender = stage.workload(), stage.sender()
    sender.send([workload.poisoned("text as number") for _ in range(sent)])
    sender.flush()
    worker = _worker(run, stage, "stops", {}, more=["kafka.fetch_records=500"])
    worker.start()
    code = worker.wait(CRASH_WITHIN_S)
    worker.end()
    letters = len(gather(stage.scene).letters)
    said = "are bad" in worker.log.read_text()
    outcome.numbers |= {"exit": code, "sent": sent, "letters": letters}
    if code != HALTED or not said:
        how = f"ended with {code} {'and' if said else 'and did not'} say why"
        outcome.problems.append(f"the worker {how}, expected {HALTED}")
    if letters == sent:
        outcome.problems.append(f"all {sent} records were drained into the dead letters")
    return outcome


def no_dead_letter_topic(run: Run) -> Outcome:
    """Take the dead-letter topic away: the worker must stop before it passes a letter, and go on when it is back."""
    outcome = Outcome(name="no dead-letter topic", faults="29")
    stage = run.stage("no-dead-letter-topic")
    workload, sender, dead = stage.workload(), stage.sender(), f"{stage.name}.dlq"
    stage.admin.delete_topics([dead])[dead].result()
    for _ in MODELS:
        sender.send([workload.good() for _ in range(BURST)] + [workload.poisoned("garbage")])
    sender.flush()
    worker = _worker(run, stage, "stops", {})
    worker.start()
    code = worker.wait(CRASH_WITHIN_S)
    worker.end()
    outcome.numbers["exit"] = code
    if code != TEMPORARY:
        outcome.problems.append(f"without its dead-letter topic the worker ended with {code}, expected {TEMPORARY}")
    stage.declare()
    _recover_and_verify(stage, Fleet(1, stage.config, stage.folder), outcome)
    return outcome


def mended(run: Run) -> Outcome:
    """Correct every dead letter and send it back twice: each is learned once."""
    outcome = Outcome(name="mended letters", faults="24, 27, 30, 31")
    stage = run.stage("mended")
    workload, sender, fleet = stage.workload(), stage.sender(), Fleet(1, stage.config, stage.folder)
    sender.send([workload.poisoned(kind) for kind in POISON for _ in range(2)])
    sender.flush()
    fleet.start()
    if not wait_until(stage.is_drained, CRASH_WITHIN_S, meanwhile=fleet.look):
        outcome.problems.append(f"poison was not dealt with within {CRASH_WITHIN_S:g} s")
    corrections, count = _corrections(stage, run.folder / "corrections.jsonl")
    replays = [stage.replay(corrections) for _ in range(2)]
    _recover_and_verify(stage, fleet, outcome)
    learned = [row for row in gather(stage.scene).rows if (row.event_id or "").startswith("dlq:")]
    outcome.numbers |= {"letters": count, "replayed": replays, "mended": len(learned)}
    if len(learned) != count or replays != [count, count]:
        outcome.problems.append(f"I1: {count} letters, sent back {replays}, but {len(learned)} of them are in the log")
    return outcome


def _corrections(stage: Stage, file: Path) -> tuple[Path, int]:
    """Write a good record for every dead letter; return the file and how many there are."""
    letters = gather(stage.scene).letters
    values = [good(random.Random(i)) | {"model": MODELS[i % len(MODELS)]} for i in range(len(letters))]  # noqa: S311
    places = [{"partition": letter.partition, "offset": letter.offset} for letter in letters]
    lines = [json.dumps(place | {"value": value}) for place, value in zip(places, values, strict=True)]
    file.write_text("\n".join(lines))
    return file, len(letters)


def gate_pass(run: Run) -> Outcome:
    """Kill every retrain between its gate and its promotion: the next attempt goes on and registers nothing twice."""
    outcome = Outcome(name="gate pass", faults="13")
    # a candidate that loses passes no gate, so that any gain will do, a negative one too
    stage = run.stage("gate-pass", retrain="every_records = 300\nmin_rows = 200\nmin_gain = -1.0")
    workload, sender = stage.workload(), stage.sender()
    sender.send([workload.good() for _ in range(3_000)])
    sender.flush()
    fleet = Fleet(1, stage.config, stage.folder)
    fleet.start()
    crash = {"STREAM_APP_CRASH": "gate_pass:1"}  # inherited by each retrain, which has a process of its own
    trainer = Worker(["trainer", "--config", str(stage.config)], stage.folder / "trainer.log", crash)
    trainer.start()
    if not wait_until(lambda: _is_trained(stage), TRAINED_WITHIN_S, meanwhile=fleet.look):
        outcome.problems.append(f"not every model had a batch version within {TRAINED_WITHIN_S:g} s")
    outcome.numbers["trainer_exit"] = trainer.end()
    _recover_and_verify(stage, fleet, outcome)
    repeated = len(stage.jobs("attempts > 1"))
    outcome.numbers |= {"crash_points": {"gate_pass": repeated}, "jobs": len(stage.jobs("1 = 1"))}
    if not repeated:
        outcome.problems.append("crash point gate_pass was never reached")
    return outcome


def _is_trained(stage: Stage) -> bool:
    return not stage.jobs("status IN ('queued', 'running')") and len(stage.jobs("version IS NOT NULL")) >= len(MODELS)


def _sleep_and_wake(run: Run, stage: Stage, point: str, feed: Callable[[], None]) -> int | str | None:
    """Return how the sleeper ended, None if it did not, or where it always was when it fell asleep.

    Another thread of it may be inside a transaction when it falls asleep. On SQLite it then keeps the database from
    everybody until it wakes, and no other worker can take its models: such a sleep proves nothing and is repeated.
    """
    name, _, passes = point.partition(":")
    for attempt in range(SLEEPS):
        # later each time: the models of a worker that starts go through their first windows in step
        place = f"{name}:{int(passes) + attempt}"
        entry = ("-m", "faults.sleeper", place) if run.entry == HONEST else (*run.entry, place)
        sleeper = _worker(run, stage, f"sleeper-{name}", {}, entry=entry)
        sleeper.start()
        wait_until(lambda: sleeper.is_asleep() or sleeper.wait(0) is not None, CRASH_WITHIN_S, meanwhile=feed)  # noqa: B023 - called at once
        if sleeper.is_asleep() and stage.is_writable():
            return _replaced(run, stage, sleeper, feed)
        sleeper.end()
    return "in a transaction"


def _replaced(run: Run, stage: Stage, sleeper: Worker, feed: Callable[[], None]) -> int | None:
    """Let another worker take the sleeper's models and go on, then wake it; return how it ended."""
    heir, before = _worker(run, stage, "heir", {}), stage.progress()
    heir.start()
    wait_until(lambda: _has_moved_on(stage, before), CRASH_WITHIN_S, meanwhile=feed)
    sleeper.send(signal.SIGCONT)
    code = sleeper.wait(RECOVERED_S)
    sleeper.end()
    heir.end()
    return code


def _has_moved_on(stage: Stage, before: Mapping[str, tuple[int, int]]) -> bool:
    """Tell whether every model has another epoch and windows of it."""
    now = stage.progress()
    return all(
        now[m][0] > before.get(m, (0, 0))[0] and now[m][1] > before.get(m, (0, 0))[1] for m in MODELS if m in now
    )


def _worker(
    run: Run,
    stage: Stage,
    name: str,
    environment: Mapping[str, str],
    *,
    entry: Sequence[str] | None = None,
    more: Sequence[str] = (),
) -> Worker:
    # a group of its own: positions live in the log, and nobody waits for the session of a dead member to end
    group = f"kafka.group_id={stage.name}-{name}-{time.monotonic_ns()}"
    pairs = [word for pair in (group, *more) for word in ("--set", pair)]
    arguments = ["worker", "--config", str(stage.config), *pairs]
    return Worker(arguments, stage.folder / f"{name}.log", environment, entry or run.entry)


def _recover_and_verify(stage: Stage, fleet: Fleet, outcome: Outcome) -> None:
    """Let the fleet take everything in, end it, and ask the verifier."""
    if not fleet.starts:
        fleet.start()
    start = time.monotonic()
    within_s = RECOVERED_S + SESSION_S
    enough = min(len(fleet.workers), PARTITIONS)  # more would have nothing to do
    if not wait_until(lambda: stage.is_drained() and fleet.ready() >= enough, within_s, meanwhile=fleet.look):
        lag = "0" if stage.is_drained() else "not 0"
        outcome.problems.append(f"I8: {within_s:g} s after the last fault {fleet.ready()} are ready, the lag is {lag}")
    outcome.numbers["recovered_s"] = round(time.monotonic() - start, 1)
    codes = fleet.end()
    outcome.problems += [f"a worker ended with {code} on SIGTERM, expected 0" for code in codes if code != 0]
    outcome.take(stage.verdict())
