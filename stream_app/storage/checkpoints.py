"""Folded states on disk, signed: what was altered, cut short or put there by others is never unpickled."""

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, delete, func, select, update

from stream_app import messages
from stream_app.crashpoints import crashpoint
from stream_app.errors import Corrupt, Fenced, NotFound, Outage
from stream_app.ports import Checkpoint, Clock, Observer
from stream_app.storage.database import insert_into, writing
from stream_app.storage.durable import make_folder, sync_folder
from stream_app.storage.outbox import owe
from stream_app.storage.ownership import move_on
from stream_app.storage.tables import checkpoints, models

_log = logging.getLogger(__name__)
FOLDER: Final = "checkpoints"
QUARANTINE: Final = "quarantine"


class SqlCheckpoints:
    """`ports.Checkpoints` over the table and the folder `<root>/checkpoints`."""

    def __init__(
        self,
        engine: Engine,
        root: Path,
        *,
        key: bytes,
        keep: int,
        learning_events: str,
        clock: Clock,
        observe: Observer,
    ) -> None:
        """`keep` newest checkpoints stay beside pinned ones; a broken one is told to `observe`, and to this topic."""
        self._engine = engine
        self._root = root
        self._key = key
        self._keep = keep
        self._learning_events = learning_events
        self._clock = clock
        self._observe = observe

    def save(self, model: str, *, epoch: int, seq: int, fold_digest: str, state: bytes) -> None:
        """Make the state durable, then let its row say so.

        1. all bytes under a draft's name, synced, 2. renamed, the folder synced
        3. the row, if the epoch is ours and the effects of `seq` are stored; what it replaces goes
        Raises Fenced, or Outage when the folder cannot be written.
        """
        path = f"{FOLDER}/{model}/{seq}-{secrets.token_hex(8)}.ckpt"
        try:
            self._write_durably(self._root / path, state)  # 1, 2
        except OSError as error:
            raise Outage(f"checkpoint {path}: {error.strerror}") from error
        row = {"model": model, "seq": seq, "epoch": epoch, "fold_digest": fold_digest, "path": path}
        row |= self._seal(model, seq, fold_digest, state)
        row |= {"size": len(state), "created_at": self._clock(), "pinned": 0, "broken": None}
        try:
            replaced = self._insert(row)  # 3
        except Fenced:
            self._delete([path])
            raise
        self._delete(replaced)

    def newest(self, model: str, *, through: int | None = None) -> Iterator[Checkpoint]:
        """Yield checkpoints newest first; one whose digest or HMAC fails is set aside and reported, not yielded.

        What is yielded are the bytes that were verified: the file is read once.
        """
        for row in reversed(self._rows(model)):
            if (through is None or row["seq"] <= through) and (checkpoint := self._checkpoint(row)) is not None:
                yield checkpoint

    def base(self, model: str, seq: int) -> Checkpoint | None:
        """Return the oldest checkpoint that has `seq` in it, else the newest before; None if none verifies."""
        rows = self._rows(model)
        since = [row for row in rows if row["seq"] >= seq]
        before = [row for row in reversed(rows) if row["seq"] < seq]
        return next((found for row in (*since, *before) if (found := self._checkpoint(row)) is not None), None)

    def pin(self, model: str, seq: int) -> None:
        """Keep the checkpoint of `seq` whatever its age; raises NotFound."""
        with self._engine.begin() as connection:
            _pin(connection, model, seq)

    def start_from(self, connection: Connection, model: str, seq: int, *, drop_before: int) -> None:
        """Pin the checkpoint of `seq` and drop those older than `drop_before`, whose windows retention lets go.

        Their files are orphans from then on. Raises NotFound, which ends the caller's transaction.
        """
        _pin(connection, model, seq)
        _drop(connection, and_(checkpoints.c.model == model, checkpoints.c.seq < drop_before))

    def remove_orphans(self, connection: Connection, model: str, *, before: float) -> int:
        """Remove files, last changed before that time, that no row names; return how many.

        The caller's transaction holds the model's row, as `save` does when it looks whether its file is there.
        """
        known = set(connection.execute(select(checkpoints.c.path).where(checkpoints.c.model == model)).scalars())
        found = {f"{FOLDER}/{model}/{file.name}": file for file in (self._root / FOLDER / model).glob("*.ckpt")}
        orphans = [path for path in found.keys() - known if found[path].stat().st_mtime < before]
        self._delete(orphans)
        return len(orphans)

    def _write_durably(self, path: Path, state: bytes) -> None:
        make_folder(path.parent)
        draft = path.with_name(f".{path.name}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        crashpoint("ckpt_tmp")
        draft.rename(path)
        sync_folder(path.parent)
        crashpoint("ckpt_renamed")

    def _insert(self, row: dict[str, Any]) -> list[str]:
        """Insert the row, in place of an older one of the same window; return the paths that are free now."""
        model, seq, epoch = row["model"], row["seq"], row["epoch"]
        with writing(self._engine) as connection:
            if move_on(connection, model, epoch, {"epoch": epoch}, models.c.effects_seq >= seq) is None:
                raise Fenced(f"{model}: the effects of window {seq} are not stored, its state is not to be kept")
            if not (self._root / row["path"]).exists():
                raise Outage(f"checkpoint {row['path']} was swept away before its row was written")
            same = connection.execute(select(checkpoints.c.path).where(_is(model, seq))).scalars().all()
            insert = insert_into(connection.dialect.name, checkpoints).values(row)
            kept = {name: value for name, value in row.items() if name not in {"model", "seq", "pinned"}}
            connection.execute(insert.on_conflict_do_update(index_elements=["model", "seq"], set_=kept))
            return [*same, *self._drop_old(connection, model)]

    def _drop_old(self, connection: Connection, model: str) -> list[str]:
        usable = and_(checkpoints.c.model == model, checkpoints.c.broken.is_(None))
        newest = select(checkpoints.c.seq).where(usable).order_by(checkpoints.c.seq.desc()).limit(self._keep)
        kept = list(connection.execute(newest).scalars())
        return _drop(connection, and_(usable, checkpoints.c.pinned == 0, checkpoints.c.seq.not_in(kept)))

    def _seal(self, model: str, seq: int, fold_digest: str, state: bytes) -> dict[str, str]:
        digest = hashlib.sha256(state).hexdigest()
        # A tuple's repr keeps the fields apart: no two checkpoints that differ have the same sealed text.
        sealed = repr((model, seq, fold_digest, digest)).encode()
        return {"sha256": digest, "hmac": hmac.new(self._key, sealed, hashlib.sha256).hexdigest()}

    def _rows(self, model: str) -> Sequence[RowMapping]:
        query = select(checkpoints).where(checkpoints.c.model == model, checkpoints.c.broken.is_(None))
        with self._engine.connect() as connection:
            return connection.execute(query.order_by(checkpoints.c.seq)).mappings().all()

    def _checkpoint(self, row: RowMapping) -> Checkpoint | None:
        """Return the checkpoint if it verifies; else set it aside."""
        try:
            return Checkpoint(seq=row["seq"], fold_digest=row["fold_digest"], state=self._verified(row))
        except _Refused as refused:
            self._set_aside(row, refused)
            return None

    def _verified(self, row: RowMapping) -> bytes:
        try:
            state: bytes = (self._root / row["path"]).read_bytes()
        except FileNotFoundError as error:
            raise _Refused("missing", "its file is missing") from error
        except OSError as error:
            raise Outage(f"checkpoint {row['path']}: {error.strerror}") from error
        seal = self._seal(row["model"], row["seq"], row["fold_digest"], state)
        if seal["sha256"] != row["sha256"]:
            stored = f"the digest of the {row['size']} bytes that were stored"
            raise _Refused("digest", f"its {len(state)} bytes do not have {stored}")
        if not hmac.compare_digest(seal["hmac"], row["hmac"]):
            raise _Refused(
                "hmac",
                "it is not signed with the checkpoint key: it was forged, or keys/checkpoint.key or "
                "storage.checkpoint_key is another than when it was saved",
            )
        return state

    def _set_aside(self, row: RowMapping, refused: "_Refused") -> None:
        """Mark the row, so that nobody reads it again, and keep the file for whoever wants to know why.

        Who marks it says so, once: by an event, in the metrics and in the log.
        """
        source, model = self._root / row["path"], row["model"]
        kept = f"{QUARANTINE}/{model}-{source.name}" if source.exists() else None
        next_seq = self._mark(row, refused, kept)
        if next_seq is None:
            return
        if kept is not None:
            make_folder(self._root / QUARANTINE)
            source.rename(self._root / kept)
        self._observe("checkpoints_broken", model=model, reason=refused.reason)
        then = f"the checkpoint of window {next_seq} is next" if next_seq else "the log is folded from its start"
        about = {"model": model, "reason": refused.reason, "file": row["path"], "kept_as": kept}
        _log.warning("checkpoint of window %d refused: %s; %s", row["seq"], refused, then, extra=about)

    def _mark(self, row: RowMapping, refused: "_Refused", kept: str | None) -> int | None:
        """Return the window of the checkpoint that stands in for it, 0 without one; None if it was marked already."""
        model, seq = row["model"], row["seq"]
        with writing(self._engine) as connection:
            mine = and_(_is(model, seq), checkpoints.c.path == row["path"], checkpoints.c.broken.is_(None))
            if connection.execute(update(checkpoints).where(mine).values(broken=str(refused))).rowcount == 0:
                return None
            next_seq = _older(connection, row)
            details = {"reason": refused.reason, "message": str(refused), "kept_as": kept, "next_seq": next_seq}
            event = messages.LearningEvent(model=model, seq=seq, details=details)
            value = orjson.dumps(event.model_dump(mode="json"))
            owe(connection, self._learning_events, model, messages.CHECKPOINT_REFUSED, value, now=self._clock())
        return next_seq

    def _delete(self, paths: list[str]) -> None:
        for path in paths:
            (self._root / path).unlink(missing_ok=True)


class _Refused(Corrupt):
    """A checkpoint does not verify."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is a word from a closed set, "missing", "digest" or "hmac"; `message` is for people."""
        super().__init__(message)
        self.reason = reason


def _older(connection: Connection, row: RowMapping) -> int:
    """Return the window of the checkpoint that can stand in for it, 0 if there is none."""
    same = and_(checkpoints.c.model == row["model"], checkpoints.c.fold_digest == row["fold_digest"])
    query = select(func.max(checkpoints.c.seq)).where(
        same, checkpoints.c.seq < row["seq"], checkpoints.c.broken.is_(None)
    )
    return connection.execute(query).scalar() or 0


def _is(model: str, seq: int) -> ColumnElement[bool]:
    return and_(checkpoints.c.model == model, checkpoints.c.seq == seq)


def _pin(connection: Connection, model: str, seq: int) -> None:
    query = update(checkpoints).where(_is(model, seq), checkpoints.c.broken.is_(None)).values(pinned=1)
    if connection.execute(query).rowcount == 0:
        raise NotFound(f"{model}: there is no checkpoint of window {seq}")


def _drop(connection: Connection, condition: ColumnElement[bool]) -> list[str]:
    return list(connection.execute(delete(checkpoints).where(condition).returning(checkpoints.c.path)).scalars())
