"""Predictions and what people said of them: stored, joined, and owed to `ground-truth`, in one transaction each.

A pair is joined by whichever side comes second. Two transactions that each hold one side must therefore see each
other: every one holds the one write lock from its start.
"""

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Engine, delete, exists, func, insert, select, text, update

from stream_app.core.joining import Opinion, Outcome, Rules
from stream_app.messages import PredictionMade, Served
from stream_app.ports import Clock, Observer
from stream_app.serving_ports import Moved
from stream_app.settings import JoinSettings
from stream_app.storage.database import writing
from stream_app.storage.label_join import UNKNOWN, Join, in_chunks, opinion_of
from stream_app.storage.partition_log import advance_position
from stream_app.storage.serving_tables import feedback, predictions

#: Names the join among the advisory locks of a shared PostgreSQL server.
_ADVISORY_LOCK: Final = 0x53544A4F494E


class SqlPredictionStore:
    """`serving_ports.PredictionStore` over the tables."""

    def __init__(
        self,
        engine: Engine,
        rules: Mapping[str, Rules],
        settings: JoinSettings,
        *,
        ground_truth: str,
        clock: Clock,
        observe: Observer,
    ) -> None:
        """`rules` are those of each model; joined labels are owed to the topic `ground_truth`."""
        self._engine = engine
        self._rules = rules
        self._settings = settings
        self._ground_truth = ground_truth
        self._clock = clock
        self._observe = observe
        # waiting for SQLite's write lock is not fair: threads of ours that queue here do not starve the model's commits
        self._turn = threading.Lock()

    def take_predictions(self, predictions: Sequence[PredictionMade], *, moved: Moved | None = None) -> None:
        """Store predictions and join the feedback that waits for them; a repeat changes nothing. Raises Fenced."""
        with self._joining(moved) as join:
            rows = self._fresh(join, predictions)
            if not rows:
                return
            join.add(list(rows.values()))
            for prediction_id, said in join.pending(rows).items():
                case = join.case(rows[prediction_id])
                for each in said:
                    join.hear(case, opinion_of(each), each.received_at)
            join.write()
        for model, count in Counter(row["model"] for row in rows.values()).items():
            self._observe("predictions_stored", amount=count, model=model)

    def take_feedback(self, opinions: Sequence[Opinion], *, moved: Moved | None = None) -> Sequence[Outcome]:
        """Store feedback and return what became of each, in order; raises Fenced.

        A repeat gets what has become of the first one by now, and an id that names feedback on another prediction
        is refused. What had expired is as good as never given.
        """
        with self._joining(moved) as join:
            known = _known(join, opinions)
            fresh: dict[str, Opinion] = {}
            for opinion in opinions:
                if known.get(opinion.feedback_id, _NEW)[1] is Outcome.EXPIRED:
                    fresh.setdefault(opinion.feedback_id, opinion)
            cases = join.cases({opinion.prediction_id for opinion in fresh.values()})
            for opinion in fresh.values():
                case = cases.get(opinion.prediction_id)
                join.wait(opinion) if case is None else join.hear(case, opinion, join.now)
            _insert_feedback(join, fresh, replaced=fresh.keys() & known.keys())
            join.write(inserted=fresh)
        first = {id_: (opinion.prediction_id, join.outcomes[id_]) for id_, opinion in fresh.items()}
        decided = {id_: (about, join.outcomes.get(id_, outcome)) for id_, (about, outcome) in known.items()} | first
        return [_answer(opinion, *decided[opinion.feedback_id]) for opinion in opinions]

    def prediction(self, prediction_id: str) -> PredictionMade | None:
        """Return a stored prediction, None if there is none (yet)."""
        with self._engine.connect() as connection:
            query = select(predictions).where(predictions.c.prediction_id == prediction_id)
            row = connection.execute(query).first()
        if row is None:
            return None
        output, known_label, label, features = map(orjson.loads, (row.output, row.known_label, row.label, row.features))
        return PredictionMade(
            prediction_id=row.prediction_id,
            model=row.model,
            features=features,
            served=Served(version=row.version, output=output, digest=row.digest, known_label=known_label),
            label=label,
            served_at=row.served_at,
        )

    def settle(self, *, limit: int = 1_000) -> int:
        """Hand on the labels whose time to settle is over; return how many predictions were settled."""
        table = predictions.c
        due = select(table.prediction_id).where(table.settle_at <= self._clock(), table.model.in_(self._rules))
        query = due.order_by(table.settle_at).limit(limit)
        with self._engine.connect() as connection:  # mostly nothing is due: look without the lock first
            if connection.execute(query.limit(1)).first() is None:
                return 0
        with self._joining() as join:
            cases = join.cases(join.connection.execute(query).scalars().all())
            for case in cases.values():
                join.settle(case)
            join.write()
        return len(cases)

    def expired(self, *, limit: int = 1_000) -> Sequence[tuple[int, Opinion]]:
        """Return feedback that waited too long, or is beyond the bound, with the ids to forget it by."""
        oldest = select(feedback).where(_waits()).order_by(feedback.c.received_at, feedback.c.id).limit(limit)
        with self._engine.connect() as connection:
            waiting = connection.execute(select(func.count()).select_from(feedback).where(_waits())).scalar_one()
            rows = connection.execute(oldest).all() if waiting else ()
        self._observe("feedback_pending", amount=waiting)
        too_many = waiting - self._settings.max_pending
        too_old = self._clock() - self._settings.pending_s
        return [(row.id, opinion_of(row)) for i, row in enumerate(rows) if i < too_many or row.received_at < too_old]

    def forget(self, ids: Collection[int]) -> None:
        """Mark such feedback as expired, once its dead letters are delivered; what was joined meanwhile stays."""
        expired = update(feedback).where(feedback.c.outcome == Outcome.PENDING, feedback.c.id.in_(ids))
        with self._joining() as join:
            forgotten = join.connection.execute(expired.values(outcome=Outcome.EXPIRED)).rowcount
            join.decided[UNKNOWN, Outcome.EXPIRED] += forgotten

    def sweep(self, *, limit: int = 1_000) -> int:
        """Delete predictions older than they are kept for, with their feedback; return how many.

        Feedback that never met its prediction goes at the same age.
        """
        before = self._clock() - self._settings.keep_s
        old = select(predictions.c.prediction_id).where(predictions.c.served_at < before).limit(limit)
        # ids rise with the time of arrival, so that the oldest few tell whether there is anything to delete
        head = select(feedback).order_by(feedback.c.id).limit(limit).subquery()
        stale = select(head.c.id).where(head.c.received_at < before, head.c.outcome != Outcome.PENDING)
        with self._joining() as join:
            ids = join.connection.execute(old).scalars().all()
            for table in (feedback, predictions):
                join.connection.execute(delete(table).where(table.c.prediction_id.in_(ids)))
            join.connection.execute(delete(feedback).where(feedback.c.id.in_(stale)))
        return len(ids)

    def counts(self, model: str | None = None) -> Mapping[str, int]:
        """Return how many predictions are stored, and how much feedback by outcome.

        Feedback that waits for its prediction is no model's yet.
        """
        stored = select(func.count()).select_from(predictions)
        said = select(feedback.c.outcome, func.count().label("many")).group_by(feedback.c.outcome)
        if model is not None:
            stored = stored.where(predictions.c.model == model)
            mine = select(predictions.c.prediction_id).where(predictions.c.model == model)
            said = said.where(feedback.c.prediction_id.in_(mine))
        with self._engine.connect() as connection:
            counted = {row.outcome: row.many for row in connection.execute(said)}
            return {
                "predictions": connection.execute(stored).scalar_one(),
                **{outcome.value: counted.get(outcome, 0) for outcome in Outcome},
            }

    @contextmanager
    def _joining(self, moved: Moved | None = None) -> Iterator[Join]:
        """Yield a join in a transaction of its own that no other overlaps; facts are told once it is durable.

        SQLite has one writer. On PostgreSQL a worker that stores a prediction does not see the feedback that another
        one is storing, nor that one the prediction: both would commit, and nobody would join the pair.
        """
        with self._turn, writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            if moved is not None:
                advance_position(
                    connection,
                    moved.partition,
                    epoch=moved.epoch,
                    position=moved.position,
                    dead_lettered=moved.dead_lettered,
                )
            join = Join(connection, self._rules, ground_truth=self._ground_truth, now=self._clock())
            yield join
        self._tell(join)

    def _tell(self, join: Join) -> None:
        for (model, outcome), count in join.decided.items():
            self._observe("feedback", amount=count, model=model, outcome=outcome)
        for model, lag_s in join.lags:
            self._observe("label_lag", amount=lag_s, model=model)

    def _fresh(self, join: Join, made: Sequence[PredictionMade]) -> dict[str, dict[str, Any]]:
        """Return the rows of those predictions that are not stored yet; of several with one id the first."""
        ids = {prediction.prediction_id for prediction in made}
        query = select(predictions.c.prediction_id)
        known = {row.prediction_id for row in in_chunks(join.connection, query, predictions.c.prediction_id, ids)}
        rows: dict[str, dict[str, Any]] = {}
        for prediction in made:
            if prediction.prediction_id not in known and prediction.prediction_id not in rows:
                rows[prediction.prediction_id] = self._row(prediction)
        return rows

    def _row(self, prediction: PredictionMade) -> dict[str, Any]:
        served, rules = prediction.served, self._rules.get(prediction.model)
        # what the schema does not name is nothing to learn from, and could make a record that Kafka does not take
        features = prediction.features if rules is None else rules.schema.named(prediction.features)
        return {
            "prediction_id": prediction.prediction_id,
            "model": prediction.model,
            "version": served.version,
            "digest": served.digest,
            "output": _json(served.output),
            "label": _json(prediction.label),
            "known_label": _json(served.known_label),
            "features": _json(features),
            "served_at": prediction.served_at,
            "settle_at": None,
            "settled_label": None,
        }


#: What is known of feedback that is not stored: it counts like what expired.
_NEW: Final = ("", Outcome.EXPIRED)


def _known(join: Join, opinions: Sequence[Opinion]) -> dict[str, tuple[str, Outcome]]:
    """Return the prediction and outcome of the feedback that is stored already, by its id."""
    query = select(feedback.c.feedback_id, feedback.c.prediction_id, feedback.c.outcome)
    ids = {opinion.feedback_id for opinion in opinions}
    rows = in_chunks(join.connection, query, feedback.c.feedback_id, ids)
    return {row.feedback_id: (row.prediction_id, Outcome(row.outcome)) for row in rows}


def _answer(opinion: Opinion, about: str, outcome: Outcome) -> Outcome:
    return outcome if opinion.prediction_id == about else Outcome.REFUSED


def _insert_feedback(join: Join, fresh: Mapping[str, Opinion], *, replaced: Collection[str]) -> None:
    if replaced:
        join.connection.execute(delete(feedback).where(feedback.c.feedback_id.in_(replaced)))
    rows = [
        {
            "feedback_id": opinion.feedback_id,
            "prediction_id": opinion.prediction_id,
            "verdict": opinion.verdict,
            "label": None if opinion.label is None else _json(opinion.label),
            "source": opinion.source,
            "given_at": opinion.given_at,
            "received_at": join.now,
            "outcome": join.outcomes[opinion.feedback_id],
        }
        for opinion in fresh.values()
    ]
    if rows:
        join.connection.execute(insert(feedback), rows)


def _waits() -> ColumnElement[bool]:
    """Return whether feedback waits for its prediction, rather than gathers beside it."""
    its = predictions.c.prediction_id == feedback.c.prediction_id
    return (feedback.c.outcome == Outcome.PENDING) & ~exists().where(its)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
