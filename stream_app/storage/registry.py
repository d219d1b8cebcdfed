"""Versions of models, their lineage, and whose bytes are no longer needed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, RowMapping, Update, and_, func, select, update

from stream_app.errors import Conflict, NotFound
from stream_app.storage import retention
from stream_app.storage.tables import control_requests, models, publications, versions
from stream_app.values import ExpiredBytes, StoredArtifact, Version, VersionStatus

_MODEL_FACTS = (
    models.c.name,
    models.c.epoch,
    models.c.seq,
    models.c.effects_seq,
    models.c.champion,
    models.c.promotion_seq,
    models.c.created_at,
)


class SqlRegistry:
    """`ports.Registry` over the tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(self, version: Version) -> Version:
        """Insert with the model's next number (the given number is ignored); numbers are never used twice."""
        with self._engine.begin() as connection:
            numbered = replace(version, number=_take_number(connection, version.model))
            connection.execute(versions.insert().values(_row(numbered)))
        return numbered

    def versions(self, model: str) -> Sequence[Version]:
        """Return all versions, newest first."""
        query = select(versions).where(versions.c.model == model).order_by(versions.c.number.desc())
        with self._engine.connect() as connection:
            return [_version(row) for row in connection.execute(query).mappings()]

    def version(self, model: str, number: int) -> Version:
        """Return one version; raises NotFound."""
        query = select(versions).where(versions.c.model == model, versions.c.number == number)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound(f"model {model!r} has no version {number}")
        return _version(row)

    def set_status(self, model: str, number: int, status: VersionStatus) -> None:
        """Move a version to `rejected` or `retired`; promotion is the owner's alone.

        Raises NotFound, and Conflict for another status or for the version that serves.
        """
        if status not in retention.SETTLED:
            raise Conflict(f"version {number} of {model!r}: only its owner makes a version {status}")
        serving = select(models.c.champion).where(models.c.name == model).scalar_subquery()
        one = and_(versions.c.model == model, versions.c.number == number)
        with self._engine.begin() as connection:
            query = update(versions).where(one, versions.c.number != func.coalesce(serving, 0))
            moved = connection.execute(query.values(status=status.value)).rowcount
        if not moved:
            self.version(model, number)
            raise Conflict(f"version {number} of {model!r} serves now: promote another one first")

    def champion(self, model: str) -> tuple[int, int]:
        """Return (version number, promotion_seq) of what serves now, (0, 0) before the first publication."""
        with self._engine.connect() as connection:
            return _champion(connection, model)

    def previous(self, model: str) -> int | None:
        """Return the version that served before the one that serves now, None if no other ever did."""
        column = publications.c.version
        with self._engine.connect() as connection:
            champion, _ = _champion(connection, model)
            # the online learner is published many times in a row, as 1.57, 1.58, …
            others = (column != str(champion), column.not_like(f"{champion}.%"))
            query = select(column).where(publications.c.model == model, *others)
            found = connection.execute(query.order_by(publications.c.promotion_seq.desc()).limit(1)).scalar()
        return None if found is None else int(found.partition(".")[0])

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return name, epoch, seq, effects_seq, champion, promotion_seq, created_at of every model."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(*_MODEL_FACTS).order_by(models.c.name)).mappings()
            return [dict(row) for row in rows]

    def expired_versions(self, model: str, *, keep: int) -> Sequence[ExpiredBytes]:
        """Return versions whose bytes may go: not among the newest `keep`, not serving, in no open request."""
        has_bytes = and_(versions.c.artifact.is_not(None), versions.c.bytes_deleted_at.is_(None))
        query = (
            select(versions.c.number, versions.c.artifact)
            .where(versions.c.model == model, has_bytes)
            .order_by(versions.c.number.desc())
        )
        with self._engine.connect() as connection:
            in_use = _asked_for(connection, model) | {_champion(connection, model)[0]}
            stored = [(row.number, decode_artifact(row.artifact)) for row in connection.execute(query)]
        return retention.expired_versions(model, stored, keep=keep, in_use=in_use)

    def expired_snapshots(self, model: str, *, keep: int, newer_than: float) -> Sequence[ExpiredBytes]:
        """Return snapshots whose bytes may go: neither among the newest `keep` nor published after `newer_than`."""
        query = (
            select(publications)
            .where(publications.c.model == model, publications.c.bytes_deleted_at.is_(None))
            .order_by(publications.c.promotion_seq.desc())
        )
        with self._engine.connect() as connection:
            published = [_published(row) for row in connection.execute(query).mappings()]
        return retention.expired_snapshots(published, keep=keep, newer_than=newer_than)

    def artifact_paths(self, model: str) -> frozenset[str]:
        """Return where the bytes of every version and snapshot of the model are or were."""
        stored = (
            select(table.c.artifact).where(table.c.model == model, table.c.artifact.is_not(None))
            for table in (versions, publications)
        )
        with self._engine.connect() as connection:
            texts = [text for query in stored for text in connection.execute(query).scalars()]
        return frozenset(decode_artifact(text).path for text in texts)

    def mark_deleted(self, expired: Sequence[ExpiredBytes], *, now: float) -> None:
        """Note that these bytes were deleted; the rows, which are the lineage, stay."""
        with self._engine.begin() as connection:
            for each in expired:
                connection.execute(_deletion(each).values(bytes_deleted_at=now))


def encode_artifact(artifact: StoredArtifact) -> str:
    """Return the JSON that the `artifact` columns hold."""
    return orjson.dumps(artifact).decode()


def decode_artifact(text: str) -> StoredArtifact:
    """Return what `encode_artifact` was given."""
    return StoredArtifact(**orjson.loads(text))


def _take_number(connection: Connection, model: str) -> int:
    # One statement that reads and moves on: two trainers can never get the same number.
    query = update(models).where(models.c.name == model).values(next_version=models.c.next_version + 1)
    after = connection.execute(query.returning(models.c.next_version)).scalar()
    if after is None:
        raise NotFound(f"there is no model {model!r}: no worker has taken it over yet")
    return int(after) - 1


def _champion(connection: Connection, model: str) -> tuple[int, int]:
    query = select(models.c.champion, models.c.promotion_seq).where(models.c.name == model)
    row = connection.execute(query).first()
    return (row.champion, row.promotion_seq) if row else (0, 0)


def _asked_for(connection: Connection, model: str) -> set[int]:
    """Return the versions that unanswered requests name."""
    waiting = and_(control_requests.c.model == model, control_requests.c.answered_seq.is_(None))
    bodies = connection.execute(select(control_requests.c.body).where(waiting)).scalars()
    return {named for body in bodies if isinstance(named := orjson.loads(body).get("version"), int)}


def _row(version: Version) -> dict[str, Any]:
    return asdict(version) | {
        "status": version.status.value,
        "artifact": None if version.artifact is None else encode_artifact(version.artifact),
        "metrics": orjson.dumps(dict(version.metrics)).decode(),
    }


def _version(row: RowMapping) -> Version:
    fields = {name: value for name, value in row.items() if name != "bytes_deleted_at"}
    return Version(
        **fields
        | {
            "status": VersionStatus(row["status"]),
            "artifact": None if row["artifact"] is None else decode_artifact(row["artifact"]),
            "metrics": orjson.loads(row["metrics"]),
        }
    )


def _published(row: RowMapping) -> retention.Published:
    return retention.Published(
        model=row["model"],
        promotion_seq=row["promotion_seq"],
        version=row["version"],
        published_at=row["published_at"],
        artifact=decode_artifact(row["artifact"]),
    )


def _deletion(expired: ExpiredBytes) -> Update:
    if expired.promotion_seq is None:
        return update(versions).where(versions.c.model == expired.model, versions.c.number == int(expired.version))
    same = and_(publications.c.model == expired.model, publications.c.promotion_seq == expired.promotion_seq)
    return update(publications).where(same)
