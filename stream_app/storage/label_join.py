"""What one transaction of the label join reads, decides and writes; `predictions` opens and closes it."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, Final
from uuid import uuid4

import orjson
from sqlalchemy import Column, Connection, Row, Select, bindparam, insert, select, update

from stream_app.core import joining
from stream_app.core.joining import Label, Opinion, Outcome, Rules, Ruling, Said, Standing
from stream_app.errors import InvalidRecord
from stream_app.messages import LABEL_JOINED
from stream_app.storage.serving_tables import feedback, label_origins, predictions
from stream_app.storage.tables import outbox

#: Values of one IN; databases have limits, and long lists are slow to compile.
CHUNK: Final = 500
_COLUMNS: Final = tuple(predictions.c.keys())
#: The model of feedback that waits for its prediction, in metrics.
UNKNOWN: Final = "unknown"
#: Source of a joined label whose feedback names none.
_SOURCE: Final = "feedback"


@dataclass(slots=True)
class Case:
    """A prediction, and how far its label has come."""

    #: as in the table
    row: Mapping[str, Any]
    #: None when its model is not in the settings any more
    rules: Rules | None
    standing: Standing

    @property
    def predicted(self) -> Label:
        """What was predicted."""
        return _label(self.row["label"])


class Join:
    """Hears opinions on predictions, and writes what comes of it."""

    def __init__(self, connection: Connection, rules: Mapping[str, Rules], *, ground_truth: str, now: float) -> None:
        """`connection` is in a transaction that no other join overlaps; labels are owed to the topic."""
        self.connection = connection
        self.now = now
        #: how much feedback was decided, by model and outcome
        self.decided: Counter[tuple[str, Outcome]] = Counter()
        #: seconds from each prediction that got a label to that label, with its model
        self.lags: list[tuple[str, float]] = []
        #: by feedback id: of what was heard, and of what it settled
        self.outcomes: dict[str, Outcome] = {}
        self._rules = rules
        self._ground_truth = ground_truth
        self._changed: dict[str, Case] = {}
        self._owed: list[tuple[Case, Said, bool]] = []

    def case(self, row: Mapping[str, Any]) -> Case:
        """Return the case of a prediction of which nothing was said."""
        return Case(row=row, rules=self._rules.get(row["model"]), standing=Standing())

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store predictions."""
        self.connection.execute(insert(predictions), rows)

    def cases(self, ids: Collection[str]) -> dict[str, Case]:
        """Return the stored predictions among the ids, as they stand."""
        rows = in_chunks(self.connection, select(predictions), predictions.c.prediction_id, ids)
        found = {row.prediction_id: self.case(dict(zip(_COLUMNS, row, strict=True))) for row in rows}
        gathering = [id_ for id_, case in found.items() if case.row["settle_at"] is not None]
        said = self.pending(gathering)
        for id_, case in found.items():
            case.standing = self._standing(case, said.get(id_, ()))
        return found

    def pending(self, ids: Collection[str]) -> dict[str, list[Row[Any]]]:
        """Return the feedback that waits for these predictions or gathers there, in the order in which it came in."""
        query = select(feedback).where(feedback.c.outcome == Outcome.PENDING)
        rows = sorted(in_chunks(self.connection, query, feedback.c.prediction_id, ids), key=attrgetter("id"))
        by_prediction = attrgetter("prediction_id")
        return {id_: list(group) for id_, group in groupby(sorted(rows, key=by_prediction), by_prediction)}

    @staticmethod
    def _standing(case: Case, rows: Sequence[Row[Any]]) -> Standing:
        row = case.row
        said = (_said(case, opinion_of(each), each.received_at) for each in rows)
        return Standing(
            handed_on=None if row["settled_label"] is None else _label(row["settled_label"]),
            settle_at=row["settle_at"],
            gathered=tuple(each for each in said if each is not None),
        )

    def wait(self, opinion: Opinion) -> None:
        """Let an opinion wait for its prediction."""
        self._decide(opinion.feedback_id, Outcome.PENDING, UNKNOWN)

    def hear(self, case: Case, opinion: Opinion, at: float) -> None:
        """Decide what becomes of an opinion that came in at that time."""
        try:
            said = _said(case, opinion, at)
        except InvalidRecord:
            self._decide(opinion.feedback_id, Outcome.REFUSED, case.row["model"])
            return
        if said is None or case.rules is None:
            self._decide(opinion.feedback_id, Outcome.STORED, case.row["model"])
            return
        for ruling in joining.hear(case.rules.feedback, case.standing, said):
            self._apply(case, ruling)

    def settle(self, case: Case) -> None:
        """Hand on what gathered."""
        if case.rules is not None:
            self._apply(case, joining.settle(case.rules.feedback, case.standing))

    def _apply(self, case: Case, ruling: Ruling) -> None:
        case.standing = ruling.standing
        self._changed[case.row["prediction_id"]] = case
        for feedback_id, outcome in ruling.outcomes.items():
            self._decide(feedback_id, outcome, case.row["model"])
        if ruling.hand_on is not None:
            self._owed.append((case, ruling.hand_on, ruling.corrects))
            self.lags.append((case.row["model"], max(0.0, self.now - case.row["served_at"])))

    def _decide(self, feedback_id: str, outcome: Outcome, model: str) -> None:
        self.outcomes[feedback_id] = outcome
        self.decided[model, outcome] += 1

    def write(self, *, inserted: Collection[str] = ()) -> None:
        """Write outcomes but for those that were `inserted` with their feedback, standings, and the labels owed."""
        outcomes = [
            {"key": feedback_id, "decided": outcome}
            for feedback_id, outcome in self.outcomes.items()
            if feedback_id not in inserted
        ]
        if outcomes:
            query = update(feedback).where(feedback.c.feedback_id == bindparam("key"))
            self.connection.execute(query.values(outcome=bindparam("decided")), outcomes)
        if self._changed:
            self._write_standings()
        if self._owed:
            self._owe()

    def _write_standings(self) -> None:
        standings = [
            {
                "key": prediction_id,
                "due": case.standing.settle_at,
                "known": None if case.standing.handed_on is None else _json(case.standing.handed_on),
            }
            for prediction_id, case in self._changed.items()
        ]
        query = update(predictions).where(predictions.c.prediction_id == bindparam("key"))
        values: dict[str, Any] = {"settle_at": bindparam("due"), "settled_label": bindparam("known")}
        self.connection.execute(query.values(**values), standings)

    def _owe(self) -> None:
        """Owe the labels to `ground-truth`.

        The id of each is an origin, as forwarded records carry one: numbers without gaps, in the order in which the
        relay sends. So a label that a crashed relay sends again is recognised for ever, also when a correction of it
        went out in between, which its prediction id alone could not tell from a change of mind.
        """
        incarnation, first = self._numbers(len(self._owed))
        rows = [
            {
                "model": case.row["model"],
                "event_id": f"{incarnation}/labels/0/{number}/0",
                "type": LABEL_JOINED,
                "topic": self._ground_truth,
                "key": case.row["model"].encode(),
                "value": _ground_truth(case.row, said, corrects=corrects),
                "created_at": self.now,
            }
            for number, (case, said, corrects) in enumerate(self._owed, first)
        ]
        self.connection.execute(insert(outbox), rows)

    def _numbers(self, count: int) -> tuple[str, int]:
        """Take so many numbers; return the incarnation of their counter, and the first of them."""
        moved = update(label_origins).values(handed_on=label_origins.c.handed_on + count)
        row = self.connection.execute(moved.returning(*label_origins.c)).first()
        if row is not None:
            return row.incarnation, row.handed_on - count
        # another database over the same topics must not be taken for this one: its numbers begin again
        incarnation = uuid4().hex
        self.connection.execute(insert(label_origins).values(incarnation=incarnation, handed_on=count))
        return incarnation, 0


def in_chunks(
    connection: Connection, query: Select[Any], column: Column[str], values: Collection[str]
) -> Iterator[Row[Any]]:
    """Yield the rows of the query whose column is among the values."""
    left = iter(values)
    while chunk := list(islice(left, CHUNK)):
        yield from connection.execute(query.where(column.in_(chunk))).all()


def opinion_of(row: Row[Any]) -> Opinion:
    """Return feedback as it was given."""
    return Opinion(
        feedback_id=row.feedback_id,
        prediction_id=row.prediction_id,
        verdict=row.verdict,
        label=None if row.label is None else _label(row.label),
        source=row.source,
        given_at=row.given_at,
    )


def _said(case: Case, opinion: Opinion, at: float) -> Said | None:
    """Return the label that is meant, None for unsure; raises InvalidRecord."""
    if case.rules is None:
        raise InvalidRecord("unknown_model", f"model {case.row['model']!r} is not in the settings")
    label = case.rules.understand(case.predicted, opinion)
    if label is None:
        return None
    return Said(feedback_id=opinion.feedback_id, label=label, source=opinion.source, at=at)


def _ground_truth(row: Mapping[str, Any], said: Said, *, corrects: bool) -> bytes:
    """Return the labelled record, a `messages.GroundTruth`; what is JSON already is taken as it is.

    Every one has the same fields: records that differ in them are taken apart one by one.
    """
    served = {name: row[name] for name in ("version", "digest")}
    served |= {name: orjson.Fragment(row[name]) for name in ("output", "known_label")}
    return orjson.dumps(
        {
            "features": orjson.Fragment(row["features"]),
            "label": said.label,
            "model": row["model"],
            "event_id": row["prediction_id"],
            "prediction_id": row["prediction_id"],
            "occurred_at": row["served_at"],
            "source": said.source or _SOURCE,
            "served": served,
            "corrects": corrects,
        }
    )


def _label(json: str) -> Label:
    label: Label = orjson.loads(json)
    return label


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
