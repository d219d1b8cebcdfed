"""Sealing a window: what must be known before the commit, because a replay cannot find it out again."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from stream_app.core.fold import ONLINE, Fold
from stream_app.core.windows import Closed
from stream_app.errors import NotFound, Outage, StreamAppError
from stream_app.storage.rows_codec import rows_digest
from stream_app.values import (
    ControlEntry,
    Features,
    Floats,
    Rows,
    Version,
    VersionStatus,
    Window,
    WindowHeader,
)
from stream_app.worker.hands import Hands

_log = logging.getLogger(__name__)
#: Outputs of a loaded batch model in the shapes of `core.contenders`.
Predict: TypeAlias = Callable[[Features], Floats]
#: Fetches, verifies and loads a batch version; raises Corrupt or Outage.
Load: TypeAlias = Callable[[Version], Predict]
#: Seconds between two looks at the waiting requests.
REQUESTS_EVERY_S: Final = 0.5


class Sealer:
    """Numbers windows, adds the outputs of batch contenders and the answers to waiting requests."""

    def __init__(self, hands: Hands, model: str, *, epoch: int, max_rows: int, load: Load) -> None:
        self._model = model
        self.max_rows = max_rows
        self.epoch = epoch
        self._control = hands.stores.control
        self._registry = hands.stores.registry
        self._clock = hands.clock
        self._observe = hands.observe
        self._load = load
        self._loaded: dict[int, Predict] = {}
        self._looked_at = float("-inf")

    def reload(self, fold: Fold) -> str | None:
        """Load the batch contenders that the fold knows; return what could not be loaded.

        Without its artifact a contender gives no outputs: its columns stay absent and it serves on.
        """
        for number in fold.contenders:
            try:
                self._loaded[number] = self._load(self._registry.version(fold.model, number))
            except StreamAppError as error:
                return f"version {number}: {error}"
        return None

    def has_requests(self, fold: Fold, nothing_taken_in: bool) -> bool:  # noqa: FBT001 - a fact, not a switch
        """Return whether requests wait for an answer; looks at most twice a second.

        Nothing is promoted before the first row: there would be nothing behind its first prediction.
        """
        now = self._clock()
        if now - self._looked_at < REQUESTS_EVERY_S or (fold.seq == 0 and nothing_taken_in):
            return False
        self._looked_at = now
        return bool(self._control.waiting(fold.model))

    def seal(self, closed: Closed, fold: Fold) -> Window:
        """Return the next window."""
        rows = closed.rows and replace(closed.rows, outputs=self._outputs(closed.rows))
        header = WindowHeader(
            model=fold.model,
            epoch=self.epoch,
            seq=fold.seq + 1,
            closed_at=self._clock(),
            closing=closed.closing,
            positions=closed.positions,
            origin_marks=closed.origin_marks,
            counts=closed.counts,
            schema_id=fold.schema.id,
            fold_digest=fold.digest,
            rows_digest=rows_digest(rows) if rows is not None else "",
            control=self._answers(fold),
        )
        return Window(header=header, rows=rows)

    def _outputs(self, rows: Rows) -> Mapping[str, Floats]:
        outputs = {}
        for number, predict in list(self._loaded.items()):
            try:
                outputs[str(number)] = predict(rows.features)
            except Exception:  # noqa: BLE001 - any: a batch model that cannot answer must not stop the learning
                del self._loaded[number]
                self._observe("model_refused", model=self._model, reason="predict")
                _log.exception("a version cannot predict; its scores stop", extra={"version": number})
        return outputs

    def _answers(self, fold: Fold) -> tuple[ControlEntry, ...]:
        """Answer the waiting requests in order; each sees the champion that the one before left."""
        champion, entries = fold.champion, []
        for request_id, kind, body in self._control.waiting(fold.model):
            refusal = self._refusal(fold, kind, body, champion)
            entries.append(
                ControlEntry(
                    request_id=request_id, kind=kind, body=body, accepted=refusal is None, reason=refusal or ""
                )
            )
            if refusal is None:
                champion = int(body["version"])
        self._loaded = {n: p for n, p in self._loaded.items() if n == champion}
        return tuple(entries)

    def _refusal(self, fold: Fold, kind: str, body: Mapping[str, Any], champion: int) -> str | None:
        """Return why a request is refused, None when it is accepted: then its version is loaded."""
        if kind not in {"promote", "rollback"}:
            return f"kind is {kind!r}, expected promote or rollback"
        number = body.get("version")
        if not isinstance(number, int):
            return f"version is {number!r}, expected a number"
        if number == champion:
            return f"version {number} is the champion already"
        if body.get("parent", champion) != champion:
            return f"version {number} was compared with version {body['parent']}, but the champion is {champion}"
        return self._unloadable(fold, number)

    def _unloadable(self, fold: Fold, number: int) -> str | None:
        try:
            version = self._registry.version(fold.model, number)
            if version.status is VersionStatus.REJECTED:
                return f"version {number} was rejected"
            if number != ONLINE:
                self._loaded[number] = self._load(version)
        except Outage:
            raise
        except NotFound:
            return f"version {number} does not exist"
        except StreamAppError as error:
            return f"version {number} cannot be loaded: {error}"
        return None
