"""A version for programs that know nothing of us: the bare estimator, and what one must know to ask it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib

from stream_app.errors import NotFound
from stream_app.messages import ModelUpdated
from stream_app.ports import Stores
from stream_app.storage.export import drafted
from stream_app.storage.packing import UnpackedModel, unpack
from stream_app.values import StoredArtifact


def export_model(
    stores: Stores, model: str, number: int | None, target: Path, trusted: Sequence[str] = ()
) -> dict[str, Any]:
    """Write version `number` (None: what serves now) to the folder `target`, which must not exist yet.

    - model.joblib: the scikit-learn or River pipeline, for `joblib.load`
    - manifest.json: its columns in order, classes, library versions, and probe records with their right answers
    - schema.json: what a record must look like
    - metrics.json: its scores at publication

    What is written was verified, and has answered the probe records as at its publication. Returns the summary of
    the manifest; the folder appears once it is complete. Raises Conflict when the folder exists, NotFound for what
    has no artifact, Corrupt.
    """
    with drafted(target) as draft:
        artifact, metrics = _published(stores, model, number)
        unpacked = unpack(stores.artifacts.get(artifact), trusted)
        unpacked.check()
        _write(draft, unpacked, metrics)
    manifest = unpacked.manifest
    return {
        "model": model,
        "version": manifest.version,
        "algorithm": manifest.algorithm,
        "trained_through_seq": manifest.trained_through_seq,
        "sha256": artifact.sha256,
    }


def _published(stores: Stores, model: str, number: int | None) -> tuple[StoredArtifact, Mapping[str, Any]]:
    champion, _ = stores.registry.champion(model)
    if number in {None, champion}:
        return _serving(stores, model)
    version = stores.registry.version(model, number or 0)
    if version.artifact is None:
        raise NotFound(
            f"{model}: version {version.number}, {version.kind} and {version.status.value}, has no stored artifact; "
            "expected one that was promoted and is still kept, or the online learner while it serves"
        )
    return version.artifact, version.metrics


def _serving(stores: Stores, model: str) -> tuple[StoredArtifact, Mapping[str, Any]]:
    for message in stores.outbox.pointers():
        if message.model == model:
            [entry] = ModelUpdated.model_validate_json(message.value).serving
            artifact = StoredArtifact(path=entry.path, sha256=entry.sha256, size=entry.size, signature=entry.signature)
            return artifact, entry.metrics
    raise NotFound(f"{model}: nothing was published yet")


def _write(folder: Path, unpacked: UnpackedModel, metrics: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    joblib.dump(unpacked.estimator, folder / "model.joblib")
    (folder / "manifest.json").write_text(unpacked.manifest.model_dump_json(indent=2, exclude={"record_schema"}))
    (folder / "schema.json").write_text(json.dumps(json.loads(unpacked.manifest.record_schema), indent=2))
    (folder / "metrics.json").write_text(json.dumps(dict(metrics), indent=2))
