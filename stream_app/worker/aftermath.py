"""What follows from a folded window: effects, checkpoints, publications."""

from typing import Any

import orjson

from stream_app import messages
from stream_app.core.fold import ONLINE, Fold
from stream_app.crashpoints import crashpoint
from stream_app.model_settings import PublishSettings, WindowSettings
from stream_app.ports import Clock, Effects, Observer, Publication, Stores
from stream_app.values import FoldReport, Window
from stream_app.worker.publishing import Publisher
from stream_app.worker.telling import tell


class Aftermath:
    """Applies effects in order, and decides when a checkpoint or a publication is due."""

    def __init__(
        self,
        *,
        epoch: int,
        stores: Stores,
        publisher: Publisher,
        window: WindowSettings,
        publish: PublishSettings,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self._epoch = epoch
        self._stores = stores
        self._publisher = publisher
        self._window = window
        self._publish = publish
        self._clock = clock
        self._observe = observe
        self._checkpoint_at: tuple[int, int] = (0, 0)
        self._published_at: tuple[int, float] = (0, float("-inf"))

    def resume(self, fold: Fold, checkpoint_seq: int) -> None:
        """Take up where the owner before stopped."""
        self._checkpoint_at = (checkpoint_seq, fold.learned)
        last = self._stores.publications.last(fold.model)
        if last is not None:
            self._published_at = (fold.learned if last[0] == fold.seq else 0, last[1])

    def apply(self, window: Window, report: FoldReport, fold: Fold) -> None:
        """Store the effects of a window that was just committed and folded, then what is due."""
        self.effects(window, report, fold)
        tell(self._observe, window, report, fold, self._clock())
        self._checkpoint_if_due(fold)
        self.publish_if_due(fold)

    def effects(self, window: Window, report: FoldReport, fold: Fold) -> None:
        """Store the effects of a window; a repeat is compared with what is stored."""
        effects = Effects(report=report, promoted=self._promoted(window, fold), events=_events(window, report))
        self._stores.log.apply_effects(fold.model, epoch=self._epoch, effects=effects)
        if effects.promoted:
            self._published_at = (fold.learned, self._clock())
            self._serves(fold, effects.promoted[1])

    def _serves(self, fold: Fold, publication: Publication) -> None:
        self._observe("model_info", model=fold.model, version=publication.version, algorithm=publication.algorithm)

    def _promoted(self, window: Window, fold: Fold) -> tuple[int, Publication] | None:
        accepted = [e for e in window.header.control if e.accepted]
        if not accepted:
            return None
        number = int(accepted[-1].body["version"])
        closed_at = window.header.closed_at
        if number == ONLINE:
            return number, self._publisher.snapshot(fold, closed_at)
        return number, self._publisher.version(fold, self._stores.registry.version(fold.model, number), closed_at)

    def publish_if_due(self, fold: Fold) -> None:
        """Publish the online model if it is the one that serves and has learned enough since the last time."""
        if fold.champion != ONLINE or not self._is_publication_due(fold):
            return
        publication = self._publisher.snapshot(fold, self._clock())
        self._stores.publications.publish(fold.model, epoch=self._epoch, at_seq=fold.seq, publication=publication)
        crashpoint("outbox")
        self._published_at = (fold.learned, self._clock())
        self._observe("snapshots_published", model=fold.model)
        self._serves(fold, publication)

    def _is_publication_due(self, fold: Fold) -> bool:
        learned = fold.learned - self._published_at[0]
        if learned <= 0:
            return False
        many = self._publish.every_records is not None and learned >= self._publish.every_records
        long = self._publish.every_s is not None and self._clock() - self._published_at[1] >= self._publish.every_s
        return many or long

    def _checkpoint_if_due(self, fold: Fold) -> None:
        seq, learned = self._checkpoint_at
        if fold.seq - seq >= self._window.checkpoint_windows or fold.learned - learned >= self._window.checkpoint_rows:
            self.checkpoint(fold)

    def checkpoint(self, fold: Fold) -> None:
        """Save the folded state."""
        self._stores.checkpoints.save(
            fold.model, epoch=self._epoch, seq=fold.seq, fold_digest=fold.digest, state=fold.state()
        )
        self._checkpoint_at = (fold.seq, fold.learned)
        self._observe("checkpoints_saved", model=fold.model)

    def pin(self, fold: Fold) -> None:
        """Keep the folded state for ever: with this fold digest no older window leads to it."""
        self.checkpoint(fold)
        self._stores.checkpoints.pin(fold.model, fold.seq)

    def leave(self, fold: Fold) -> None:
        """Publish and checkpoint what is not yet, so that the next owner starts at once."""
        self.publish_if_due(fold)
        if fold.seq > self._checkpoint_at[0]:
            self.checkpoint(fold)


def _events(window: Window, report: FoldReport) -> tuple[tuple[str, bytes], ...]:
    header = window.header
    events: list[tuple[str, dict[str, Any]]] = [
        (
            messages.DRIFT_DETECTED,
            {"pos": d.pos, "feature": d.feature, "detector": d.detector, "before": d.before, "after": d.after},
        )
        for d in report.drifts
    ]
    if report.quarantined is not None:
        events.append((messages.WINDOW_QUARANTINED, {"reason": report.quarantined}))
    for entry in header.control:
        if entry.accepted:
            type_ = messages.MODEL_ROLLED_BACK if entry.kind == "rollback" else messages.MODEL_PROMOTED
            events.append((type_, dict(entry.body)))
    return tuple((type_, _event(header.model, header.seq, details)) for type_, details in events)


def _event(model: str, seq: int, details: dict[str, Any]) -> bytes:
    return orjson.dumps(messages.LearningEvent(model=model, seq=seq, details=details).model_dump(mode="json"))
