"""Housekeeping of the models in our hands: off the hot path, fenced like everything else."""

from dataclasses import dataclass
from typing import Final

from stream_app.ports import ArtifactStore, Clock
from stream_app.storage.housekeeping import Housekeeping
from stream_app.storage.registry import SqlRegistry

#: Seconds between two rounds.
TIDY_EVERY_S: Final = 30.0
#: Snapshots younger than this are kept, however many there are: a subscriber may still be fetching one.
YOUNG_S: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidier:
    """Merges small files, lets old rows go, and removes the bytes of versions that nobody can need."""

    housekeeping: Housekeeping
    registry: SqlRegistry
    artifacts: ArtifactStore
    keep_versions: int
    keep_snapshots: int
    clock: Clock

    def tidy(self, model: str, epoch: int) -> None:
        """Do one round for one model; raises Fenced when another owner exists."""
        now = self.clock()
        self.housekeeping.run_once(model, epoch=epoch, now=now)
        expired = [
            *self.registry.expired_versions(model, keep=self.keep_versions),
            *self.registry.expired_snapshots(model, keep=self.keep_snapshots, newer_than=now - YOUNG_S),
        ]
        for each in expired:
            self.artifacts.delete(each.artifact.path)
        # after the deletion: a crash between the two deletes what is gone already once more
        self.registry.mark_deleted(expired, now=now)
