"""From a folded state to what subscribers load: a signed artifact and the event that points at it."""

from collections.abc import Callable

from stream_app.core.fold import ONLINE, Fold
from stream_app.errors import NotFound
from stream_app.messages import ModelUpdated, ServingEntry
from stream_app.ports import ArtifactStore, Publication
from stream_app.storage.artifacts import artifact_path
from stream_app.storage.packing import Description, pack_online
from stream_app.storage.signing import Signer, sign_event
from stream_app.values import StoredArtifact, Version


class Publisher:
    """Packs, stores and announces what a model serves."""

    def __init__(self, artifacts: ArtifactStore, signer: Signer) -> None:
        self._artifacts = artifacts
        self._signer = signer

    def snapshot(self, fold: Fold, at: float) -> Publication:
        """Store the online learner as it is now and return its publication."""
        version = f"{ONLINE}.{fold.seq}"
        description = Description(
            model=fold.model,
            version=version,
            algorithm=fold.online.algorithm,
            schema_json=fold.schema.to_json(),
            shape=fold.shape,
            trained_through_seq=fold.seq,
            known_labels=tuple(fold.known_labels),
        )
        content = pack_online(description, fold.online.plain(), fold.probe_with_known_labels())
        artifact = self._artifacts.put(artifact_path(fold.model, version, content), content)
        return self._publication(fold, version, fold.online.algorithm, artifact, fold.seq, at)

    def version(self, fold: Fold, version: Version, at: float) -> Publication:
        """Return the publication of a registered batch version; raises NotFound if its bytes are gone."""
        if version.artifact is None:
            raise NotFound(f"version {version.number} of {fold.model!r} has no stored artifact")
        name, through = str(version.number), version.trained_through
        return self._publication(fold, name, version.algorithm, version.artifact, through, at)

    def _publication(
        self, fold: Fold, version: str, algorithm: str, artifact: StoredArtifact, through: int, at: float
    ) -> Publication:
        entry = ServingEntry(
            role="champion",
            weight=1.0,
            version=version,
            algorithm=algorithm,
            path=artifact.path,
            sha256=artifact.sha256,
            size=artifact.size,
            signature=artifact.signature,
            metrics=fold.headline(),
            trained_through_seq=through,
            trained_through_at=fold.closed_at,
        )
        return Publication(
            version=version,
            event=self._event(fold.model, entry, at),
            artifact=artifact,
            algorithm=algorithm,
            trained_through=through,
        )

    def _event(self, model: str, entry: ServingEntry, at: float) -> Callable[[int], bytes]:
        def event(promotion_seq: int) -> bytes:
            update = ModelUpdated(model=model, promotion_seq=promotion_seq, serving=[entry], published_at=at)
            return sign_event(update, self._signer).model_dump_json().encode()

        return event
