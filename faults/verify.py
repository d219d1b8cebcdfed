"""The verdict over a run: was every record learned exactly once, and did nobody write who had lost the right to?

Each check is one function from evidence to numbers and problems. Nothing of the package under test is imported;
tests hold that.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, TypeAlias

from faults.evidence import Evidence, Sent, elements

#: (topic, partition, offset, index of the element)
Place: TypeAlias = tuple[str, int, int, int]

ORIGIN: Final = "x-stream-app-origin"
#: What the producers of the suite say beforehand about each element of a message: "learn", "repeat", "dead:<reason>".
EXPECT: Final = "x-expect"
ERRORS: Final = "__connect.errors."
REPLAYED: Final = "x-dlq-attempts"
#: Kinds of rows that online learners learn.
LEARNED: Final = 0
#: Problems of one check that are told; the rest is counted.
TOLD: Final = 10


@dataclass(slots=True, kw_only=True)
class Verdict:
    """Exact numbers, and what is wrong."""

    numbers: dict[str, int] = field(default_factory=dict)
    #: each begins with the invariant that it breaks
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def blame(self, invariant: str, found: Sequence[str]) -> None:
        """Note problems; of many of a kind only some are told."""
        self.problems += [f"{invariant}: {text}" for text in found[:TOLD]]
        if len(found) > TOLD:
            self.problems.append(f"{invariant}: and {len(found) - TOLD} more like these")


class _Records:
    """Every record that was sent, and what became of it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def sent(self) -> Mapping[Place, tuple[Sent, Any]]:
        """Return each element by its place; a message that is dead as a whole is one element."""
        return {
            (*_at(message), index): (message, element)
            for message in self.evidence.sent
            for index, element in enumerate([None] if _at(message) in self._dead_wholes else elements(message))
        }

    @cached_property
    def _dead_wholes(self) -> set[tuple[str, int, int]]:
        return {_failed_at(letter) for letter in self.evidence.letters if "x-dlq-index" not in letter.headers}

    @cached_property
    def learned(self) -> Counter[Place]:
        """Return how many rows of the log came from each place."""
        return Counter((r.topic, r.partition, r.offset, r.index) for r in self.evidence.rows)

    @cached_property
    def dead(self) -> Mapping[Place, set[str]]:
        """Return the reasons of the dead letters of each place."""
        reasons: defaultdict[Place, set[str]] = defaultdict(set)
        for letter in self.evidence.letters:
            index = int(letter.headers.get("x-dlq-index", "0"))
            reasons[(*_failed_at(letter), index)].add(letter.headers["x-dlq-reason"])
        return reasons

    @cached_property
    def forwarded(self) -> set[Place]:
        """Return the places whose record was sent on to another partition."""
        return {_place(m.headers[ORIGIN]) for m in self.evidence.sent if ORIGIN in m.headers}

    @cached_property
    def ids(self) -> Counter[tuple[str, str]]:
        """Return how many learned rows each (model, learning id) has."""
        known = [(r.model, i) for r in self.evidence.rows if r.kind == LEARNED and (i := r.prediction_id or r.event_id)]
        return Counter(known)

    @cached_property
    def origins(self) -> Counter[str]:
        """Return how many rows each origin has."""
        return Counter(r.origin for r in self.evidence.rows if r.origin is not None)

    @cached_property
    def repeats(self) -> set[Place]:
        """Return the places of records that are not in the log because the same record is, from elsewhere."""
        absent = (place for place in self.sent if not self.learned[place] and place not in self.dead)
        return {place for place in absent if place not in self.forwarded and self._is_known(place)}

    def _is_known(self, place: Place) -> bool:
        message, element = self.sent[place]
        id_ = learning_id(element)
        by_id = id_ is not None and self.ids[(self.model(message, element), id_)] > 0
        return by_id or self.origins[message.headers.get(ORIGIN, "")] > 0

    def model(self, message: Sent, element: Any) -> str:  # noqa: ANN401 - JSON
        """Return the model that a record is meant for."""
        fed = self.evidence.scene.ingest.get(message.topic)
        named = element.get("model") if isinstance(element, dict) else None
        return fed or named or (message.key or b"").decode("utf-8", "replace")


def learning_id(element: Any) -> str | None:  # noqa: ANN401 - JSON
    """Return the id by which a repeat of the record is recognised."""
    if not isinstance(element, dict):
        return None
    id_ = element.get("prediction_id") or element.get("event_id")
    return None if id_ is None else str(id_)


def verify(evidence: Evidence) -> Verdict:
    """Check what can be checked from outside: I1, I2, I4, I5 and I7."""
    verdict, records = Verdict(), _Records(evidence)
    for check in CHECKS:
        check(records, verdict)
    return verdict


def nothing_is_lost(records: _Records, verdict: Verdict) -> None:
    """I1: each record is in one window, or dead-lettered, or a counted repeat, or sent on: one of these, and once."""
    fates = {
        place: [
            name
            for name, holds in (
                ("learned", records.learned[place] > 0),
                ("dead-lettered", place in records.dead),
                ("forwarded", place in records.forwarded),
                ("a repeat", place in records.repeats),
            )
            if holds
        ]
        for place in records.sent
    }
    lost = [_named(place) for place, fate in fates.items() if not fate]
    both = [f"{_named(place)} is {' and '.join(fate)}" for place, fate in fates.items() if len(fate) > 1]
    verdict.numbers |= {
        "messages": len(records.evidence.sent),
        "sent": len(records.sent),
        "in_the_log": len(records.evidence.rows),
        "duplicates": len(records.repeats),
        "dead_lettered": len(records.dead),
        "letters": len(records.evidence.letters),
        "forwarded": len(records.forwarded),
        "lost": len(lost),
    }
    verdict.blame("I1", [f"{name} is lost" for name in lost])
    verdict.blame("I1", both)
    verdict.blame("I1", [f"row from {_named(p)}, which nobody sent" for p in records.learned if p not in records.sent])


def counts_are_exact(records: _Records, verdict: Verdict) -> None:
    """I1: what the log says of itself equals what is found outside."""
    told: Counter[str] = Counter()
    for window in records.evidence.tables["windows"]:
        told.update(json.loads(window["header"])["counts"])
    for partition in records.evidence.tables["partition_positions"]:
        told.update({name: partition[name] for name in ("dead_lettered", "forwarded")})
    found = {
        "duplicates": len(records.repeats),
        "dead_lettered": len(records.dead),
        "forwarded": len(records.forwarded),
    }
    rows = told["learned"] + told["late"] + told["corrections"]
    wrong = [f"{name} counted {told[name]}, found {count}" for name, count in found.items() if told[name] != count]
    if rows != len(records.evidence.rows):
        wrong.append(f"rows counted {rows}, found {len(records.evidence.rows)}")
    verdict.blame("I1", wrong)


def nothing_is_learned_twice(records: _Records, verdict: Verdict) -> None:
    """I2: no place, no id and no origin is in the log twice."""
    places = Counter((r.incarnation, r.topic, r.partition, r.offset, r.index) for r in records.evidence.rows)
    twice = [f"{'/'.join(map(str, place))} is in the log {n} times" for place, n in places.items() if n > 1]
    twice += [f"id {id_} of {model} is in the log {n} times" for (model, id_), n in records.ids.items() if n > 1]
    twice += [f"origin {origin} is in the log {n} times" for origin, n in records.origins.items() if n > 1]
    verdict.numbers["twice"] = len(twice)
    verdict.blame("I2", twice)


def windows_are_whole(records: _Records, verdict: Verdict) -> None:
    """I2: windows follow each other without gap, and each holds the rows that its header says."""
    evidence = records.evidence
    rows = Counter((row.model, row.seq) for row in evidence.rows)
    wrong = list(evidence.broken_files)
    for model in evidence.tables["models"]:
        windows = [w for w in evidence.tables["windows"] if w["model"] == model["name"]]
        if [w["seq"] for w in windows] != list(range(1, model["seq"] + 1)):
            wrong.append(f"{model['name']}: the windows are not 1 to {model['seq']}")
        wrong += [
            f"{w['model']}: window {w['seq']} holds {rows[(w['model'], w['seq'])]} rows, not {w['row_count']}"
            for w in windows
            if rows[(w["model"], w["seq"])] != w["row_count"]
        ]
    verdict.numbers["windows"] = len(evidence.tables["windows"])
    verdict.blame("I2", wrong)


def metrics_are_complete(records: _Records, verdict: Verdict) -> None:
    """I4: one row of metrics per window, whose counts are those of the rows."""
    evidence = records.evidence
    stored = {(m["model"], m["seq"]): m for m in evidence.tables["metrics"]}
    learned = Counter((r.model, r.seq) for r in evidence.rows if r.kind == LEARNED)
    wrong, totals = [], Counter[str]()
    for window in evidence.tables["windows"]:
        model, key = window["model"], (window["model"], window["seq"])
        metrics = stored.pop(key, None)
        if metrics is None:
            wrong.append(f"{model}: window {window['seq']} has no metrics")
            continue
        totals[model] += 0 if metrics["quarantined"] else learned[key]
        body = json.loads(metrics["body"])
        expected = {"rows": window["row_count"], "learned": totals[model], "closed_at": window["closed_at"]}
        wrong += [
            f"{model}: {n} of window {window['seq']} is {body[n]}, not {v}" for n, v in expected.items() if body[n] != v
        ]
    wrong += [f"{model}: metrics of window {seq}, which does not exist" for model, seq in stored]
    verdict.numbers["metrics"] = len(evidence.tables["metrics"])
    verdict.blame("I4", wrong)


def events_point_at_what_is_there(records: _Records, verdict: Verdict) -> None:
    """I5: each event names a publication of the database and an artifact that exists with its digest."""
    evidence = records.evidence
    published = {(p["model"], p["promotion_seq"]): p for p in evidence.tables["publications"]}
    wrong, newest = [], Counter[str]()
    for event in evidence.events:
        body = json.loads(event.value or b"{}")
        key = (body["model"], body["promotion_seq"])
        newest[key[0]] = max(newest[key[0]], key[1])
        wrong += list(_artifact_problems(evidence, body["serving"][0], published.get(key), f"{key[0]} {key[1]}"))
    # what the last worker published on its way out is sent by the next one's relay: owed is not lost
    owed = {event["event_id"] for event in evidence.tables["outbox"] if event["sent_at"] is None}
    missing = {key for key in published if key[1] > newest[key[0]] and f"{key[0]}:{key[1]}" not in owed}
    wrong += [f"{model}: publication {number} was never sent" for model, number in sorted(missing)]
    verdict.numbers["events_owed"] = len(owed)
    verdict.numbers["events"] = len(evidence.events)
    verdict.numbers["publications"] = len(published)
    verdict.blame("I5", wrong)


def versions_are_unique(records: _Records, verdict: Verdict) -> None:
    """I5: numbers are given once, a job registers each of its candidates once, and what it names is there."""
    tables = records.evidence.tables
    numbers = Counter((v["model"], v["number"]) for v in tables["versions"])
    learned = [json.loads(v["metrics"]) | {"model": v["model"]} for v in tables["versions"] if v["kind"] == "batch"]
    made = Counter((v["model"], v.get("job"), v.get("candidate")) for v in learned)
    named = {(j["model"], j["version"]) for j in tables["jobs"] if j["version"] is not None}
    wrong = [f"{model}: there are {n} versions {number}" for (model, number), n in numbers.items() if n > 1]
    wrong += [f"{model}: job {job} registered {what} {n} times" for (model, job, what), n in made.items() if n > 1]
    wrong += [f"{model}: a job names version {number}, which is not there" for model, number in named - numbers.keys()]
    verdict.numbers["versions"] = len(numbers)
    verdict.blame("I5", wrong)


def _artifact_problems(
    evidence: Evidence, entry: Mapping[str, Any], publication: Mapping[str, Any] | None, name: str
) -> Iterator[str]:
    if publication is None:
        yield f"event {name} is no publication of the database"
        return
    stored = json.loads(publication["artifact"])
    if (stored["path"], stored["sha256"]) != (entry["path"], entry["sha256"]):
        yield f"event {name} names {entry['path']}, the database {stored['path']}"
    elif publication["bytes_deleted_at"] is None:
        file = evidence.scene.artifacts / entry["path"]
        if not file.is_file() or sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
            yield f"event {name}: {entry['path']} is missing or has another digest"


def nobody_writes_who_lost_the_model(records: _Records, verdict: Verdict) -> None:
    """I7: epochs never fall along the log, and after an epoch was seen nobody of an older one wrote."""
    wrong = []
    by_model: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for window in records.evidence.tables["windows"]:
        by_model[window["model"]].append((window["seq"], window["epoch"]))
    for model, windows in by_model.items():
        falls = [seq for (_, a), (seq, b) in pairwise(windows) if b < a]
        wrong += [f"{model}: window {seq} is of an older epoch than the one before it" for seq in falls]
    for model, epoch, seq in records.evidence.observations:
        late = [s for s, e in by_model[model] if s > seq and e < epoch]
        wrong += [f"{model}: window {s} is of an epoch older than {epoch}, seen before it" for s in late]
    verdict.numbers["epochs"] = sum(len({e for _, e in windows}) for windows in by_model.values())
    verdict.numbers["observations"] = len(records.evidence.observations)
    verdict.blame("I7", sorted(set(wrong)))


def poison_was_recognised(records: _Records, verdict: Verdict) -> None:
    """I1: each record went where its producer knew beforehand that it must go."""
    wrong = []
    for place, (message, _) in records.sent.items():
        if REPLAYED in message.headers:
            continue  # what was announced is not what was sent back in its stead
        expected = json.loads(message.headers.get(EXPECT, "[]"))
        told = expected[place[3]] if place[3] < len(expected) else ""
        reasons = records.dead.get(place, set())
        if told.startswith("dead:") and place not in records.forwarded and reasons != {told.removeprefix("dead:")}:
            wrong.append(f"{_named(place)}: expected {told}, found {sorted(reasons) or 'no letter'}")
        if told in {"learn", "repeat"} and reasons:
            wrong.append(f"{_named(place)}: good, and dead-lettered for {sorted(reasons)}")
    verdict.blame("I1", wrong)


CHECKS: Final[Sequence[Callable[[_Records, Verdict], None]]] = (
    nothing_is_lost,
    counts_are_exact,
    poison_was_recognised,
    nothing_is_learned_twice,
    windows_are_whole,
    metrics_are_complete,
    events_point_at_what_is_there,
    versions_are_unique,
    nobody_writes_who_lost_the_model,
)


def _at(message: Sent) -> tuple[str, int, int]:
    return message.topic, message.partition, message.offset


def _failed_at(letter: Sent) -> tuple[str, int, int]:
    h = letter.headers
    return h[f"{ERRORS}topic"], int(h[f"{ERRORS}partition"]), int(h[f"{ERRORS}offset"])


def _place(origin: str) -> Place:
    _, topic, partition, offset, index = origin.rsplit("/", 4)  # an incarnation may hold slashes
    return topic, int(partition), int(offset), int(index)


def _named(place: Place) -> str:
    topic, partition, offset, index = place
    return f"{topic}[{partition}] offset {offset}" + (f" element {index}" if index else "")
