"""What a folded window changes outside the fold, and publications: each is one transaction of the owner."""

from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, RowMapping, select, update

from stream_app.crashpoints import crashpoint
from stream_app.errors import Conflict, Corrupt, NotFound
from stream_app.messages import MODEL_UPDATED
from stream_app.ports import Clock, Effects, Publication
from stream_app.storage.database import writing
from stream_app.storage.ownership import move_on
from stream_app.storage.tables import metrics, models, outbox, publications, versions
from stream_app.values import FoldReport, VersionStatus

_JSON: Final = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


class SqlPublications:
    """`ports.Publications`, and the effects that may carry one."""

    def __init__(self, engine: Engine, *, model_updated: str, learning_events: str, clock: Clock) -> None:
        """`model_updated` and `learning_events` are the topics of what is owed to Kafka."""
        self._engine = engine
        self._model_updated = model_updated
        self._learning_events = learning_events
        self._clock = clock

    def publish(self, model: str, *, epoch: int, at_seq: int, publication: Publication) -> int:
        """Store a snapshot and its outbox row if effects_seq is still `at_seq`; return its promotion_seq.

        Raises Fenced, or Conflict if this owner itself went on to another window.
        """
        with writing(self._engine) as connection:
            number = int(publication.version.partition(".")[0])
            row = move_on(connection, model, epoch, _next_promotion(number), models.c.effects_seq == at_seq)
            if row is None:
                raise Conflict(f"{model}: a state of window {at_seq} is not the newest: nothing was published")
            self._announce(connection, model, row["promotion_seq"], publication)
        return int(row["promotion_seq"])

    def last(self, model: str) -> tuple[int, float, int] | None:
        """Return (trained_through, published_at, promotion_seq) of the newest publication."""
        columns = (publications.c.trained_through, publications.c.published_at, publications.c.promotion_seq)
        query = select(*columns).where(publications.c.model == model).order_by(columns[2].desc()).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.trained_through, row.published_at, row.promotion_seq)

    def apply_effects(self, model: str, *, epoch: int, effects: Effects) -> None:
        """Store the effects of a window: all of them, once.

        1. effects_seq moves on by one, if epoch and effects_seq are what they were
        2. the metrics row, the events, the promotion and its announcement, in the same transaction
        A repeat changes nothing and is compared. Raises Fenced, Conflict for a window out of turn, and Corrupt
        for a repeat that found out something else.
        """
        crashpoint("effects")
        seq = effects.report.seq
        with writing(self._engine) as connection:
            turn = (models.c.effects_seq == seq - 1, models.c.seq >= seq)
            if move_on(connection, model, epoch, {"effects_seq": seq}, *turn) is None:  # 1
                _compare(connection, model, effects.report)
                return
            self._store(connection, model, epoch, effects)  # 2
        crashpoint("outbox")

    def _store(self, connection: Connection, model: str, epoch: int, effects: Effects) -> None:
        seq = effects.report.seq
        connection.execute(metrics.insert(), _metrics_row(effects.report) | {"model": model})
        for place, (type_, value) in enumerate(effects.events):
            event = {"event_id": f"{model}:{seq}:{place}", "type": type_, "value": value}
            self._owe(connection, model, event | {"topic": self._learning_events})
        if effects.promoted is not None:
            number, publication = effects.promoted
            _mark_promoted(connection, model, number)
            row = move_on(connection, model, epoch, _next_promotion(number))
            if row is not None:  # never: the row is ours since step 1
                self._announce(connection, model, row["promotion_seq"], publication)

    def _announce(self, connection: Connection, model: str, promotion_seq: int, publication: Publication) -> None:
        row = {
            "model": model,
            "promotion_seq": promotion_seq,
            "version": publication.version,
            "algorithm": publication.algorithm,
            "artifact": orjson.dumps(publication.artifact).decode(),
            "trained_through": publication.trained_through,
            "published_at": self._clock(),
        }
        connection.execute(publications.insert(), row)
        event = {"event_id": f"{model}:{promotion_seq}", "type": MODEL_UPDATED, "promotion_seq": promotion_seq}
        event |= {"topic": self._model_updated, "value": publication.event(promotion_seq)}
        self._owe(connection, model, event)

    def _owe(self, connection: Connection, model: str, row: dict[str, Any]) -> None:
        common = {"model": model, "key": model.encode(), "created_at": self._clock()}
        connection.execute(outbox.insert(), common | row)


def decode_metrics(row: RowMapping) -> dict[str, Any]:
    """Return a metrics row with its `seq`, `probe_hash` and why the window was `quarantined`, None if it was not."""
    known = {"seq": row["seq"], "probe_hash": row["probe_hash"], "quarantined": row["quarantined"]}
    return dict(orjson.loads(row["body"])) | known


def _next_promotion(champion: int) -> dict[str, Any]:
    return {"champion": champion, "promotion_seq": models.c.promotion_seq + 1}


def _mark_promoted(connection: Connection, model: str, number: int) -> None:
    query = update(versions).where(versions.c.model == model, versions.c.number == number)
    if connection.execute(query.values(status=VersionStatus.PROMOTED.value)).rowcount == 0:
        raise NotFound(f"model {model!r} has no version {number}: it cannot be promoted")


def _metrics_row(report: FoldReport) -> dict[str, Any]:
    body = orjson.dumps(dict(report.metrics), option=_JSON).decode()
    return {"seq": report.seq, "probe_hash": report.probe_hash, "quarantined": report.quarantined, "body": body}


def _compare(connection: Connection, model: str, report: FoldReport) -> None:
    query = select(metrics).where(metrics.c.model == model, metrics.c.seq == report.seq)
    stored = connection.execute(query).mappings().first()
    if stored is None:
        raise Conflict(f"{model}: the effects of window {report.seq} are out of turn; nothing was stored")
    told = _metrics_row(report)
    differing = [name for name, value in told.items() if stored[name] != value]
    if differing:
        raise Corrupt(
            f"{model}: folding window {report.seq} again gave another {' and '.join(differing)} than is stored: "
            "the fold is not deterministic, or the log changed"
        )
