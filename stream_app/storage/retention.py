"""The rules by which stored models lose their bytes; rows, which are the lineage, are never deleted.

*Versions* and *snapshots* have rules of their own: a model that is published each second must not push the
last good version out.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from stream_app.values import ExpiredBytes, StoredArtifact, VersionStatus

#: What can become of a version without its owner's transaction.
SETTLED = frozenset({VersionStatus.REJECTED, VersionStatus.RETIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One publication whose bytes are still there."""

    model: str
    promotion_seq: int
    version: str
    published_at: float
    artifact: StoredArtifact

    @property
    def is_snapshot(self) -> bool:
        """Return whether this is an online state between versions, such as "1.57"."""
        return "." in self.version


def expired_versions(
    model: str, stored: Sequence[tuple[int, StoredArtifact]], *, keep: int, in_use: Collection[int]
) -> list[ExpiredBytes]:
    """Return the versions beyond the newest `keep` that nobody uses; `stored` has the newest first."""
    return [
        ExpiredBytes(model=model, version=str(number), promotion_seq=None, artifact=artifact)
        for number, artifact in stored[keep:]
        if number not in in_use
    ]


def expired_snapshots(published: Sequence[Published], *, keep: int, newer_than: float) -> list[ExpiredBytes]:
    """Return the snapshots beyond the newest `keep` published before `newer_than`; the newest comes first.

    The newest publication always stays, and so do bytes that are named once more by one that stays (a
    rollback publishes an older snapshot again).
    """
    newest = {each.promotion_seq for each in [*published[:1], *_snapshots(published)[:keep]]}
    old = [each for each in published if each.promotion_seq not in newest and each.published_at < newer_than]
    gone = {each.promotion_seq for each in old}
    needed = {each.artifact.path for each in published if each.promotion_seq not in gone}
    return [
        ExpiredBytes(model=e.model, version=e.version, promotion_seq=e.promotion_seq, artifact=e.artifact)
        for e in _snapshots(old)
        if e.artifact.path not in needed
    ]


def _snapshots(published: Sequence[Published]) -> list[Published]:
    return [each for each in published if each.is_snapshot]
