"""A published model is one file: what it is, how it must answer, and the estimator.

A zip without compression, with two entries of fixed names and times, so that its size is known before it is
read and nothing in it can unfold. `unpack` takes bytes that the artifact store has verified, and no others.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream_app.core.shape import Shape
from stream_app.errors import Corrupt
from stream_app.storage.formats import FORMATS, Estimator, library_versions
from stream_app.values import Features, Floats, Task

_MANIFEST: Final = "manifest.json"
_MAX_MANIFEST_BYTES: Final = 8_000_000
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the publisher says about a model."""

    model: str
    #: "3" or "1.57"
    version: str
    #: e.g. "sklearn:HistGradientBoostingClassifier"
    algorithm: str
    schema_json: str
    #: columns that the estimator takes: the schema's, and after its numbers the previous labels, if any
    shape: Shape
    #: newest window that it has learned
    trained_through_seq: int
    #: the newest labels known, newest first, encoded; empty unless the shape has columns for them
    known_labels: tuple[float, ...] = ()
    #: for people: what it was built from
    settings: Mapping[str, Any] = field(default_factory=dict)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Probe(_Part):
    """Records and the answers that the publisher got for them, all at once and in this order."""

    #: null is a missing value
    numeric: list[list[float | None]]
    categorical: list[list[str | None]]
    #: one number a record, or one list of P by class
    outputs: list[float] | list[list[float]]
    #: of the outputs' float64 bytes
    outputs_sha256: str


class Manifest(_Part):
    """Everything about a packed model but the estimator itself."""

    layout: Literal[1] = 1
    format: Literal["pickle", "skops"]
    model: str
    version: str
    algorithm: str
    task: Task
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    classes: tuple[bool | int | str, ...]
    known_labels: tuple[float | None, ...]
    #: the schema's JSON; pydantic keeps the plain name for itself
    record_schema: str = Field(alias="schema_json")
    settings: dict[str, Any]
    trained_through_seq: int
    libraries: dict[str, str]
    probe: Probe

    @property
    def shape(self) -> Shape:
        """Return the columns that the estimator takes."""
        return Shape(task=self.task, numeric=self.numeric, categorical=self.categorical, classes=self.classes)


@dataclass(frozen=True, slots=True)
class UnpackedModel:
    """A model that is ready to predict; `check` says whether it does so as its publisher saw it."""

    manifest: Manifest
    estimator: Estimator

    def predict(self, features: Features) -> Floats:
        """Return the outputs for n records, in the shapes of `Contender.predict`.

        Where the model takes previous labels and the features have none, those known at its publication are
        appended.
        """
        shape = self.manifest.shape
        completed = _complete(features, shape, _numbers([self.manifest.known_labels]))
        return FORMATS[self.manifest.format].predict(self.estimator, completed, shape)

    def check(self) -> None:
        """Predict the probe records; raises Corrupt unless the outputs are finite and the publisher's.

        River's must be equal to the last bit. scikit-learn's may differ by rounding: another processor sums
        in another order.
        """
        probe = self.manifest.probe
        try:
            outputs = self.predict(_features(probe))
        except Exception as error:
            raise Corrupt(f"{self._name}: cannot predict the probe records: {error!r}{self._age()}") from error
        if not np.isfinite(outputs).all():
            raise Corrupt(f"{self._name}: not all outputs for the probe records are finite")
        if _digest(outputs) != probe.outputs_sha256 and not self._differs_by_rounding(outputs):
            raise Corrupt(f"{self._name}: the probe records get other outputs than at its publication{self._age()}")

    def _differs_by_rounding(self, outputs: Floats) -> bool:
        expected = np.array(self.manifest.probe.outputs)
        same = outputs.shape == expected.shape and np.allclose(outputs, expected, rtol=1e-9, atol=1e-12)
        return self.manifest.format == "skops" and bool(same)

    @property
    def _name(self) -> str:
        return f"version {self.manifest.version} of {self.manifest.model!r}"

    def _age(self) -> str:
        return _other_libraries(self.manifest)


def pack_online(description: Description, estimator: Estimator, probe: Features) -> bytes:
    """Return the file of a River pipeline; its outputs for the probe records, n with the schema's columns, go along.

    Raises Corrupt if they are not finite: such a model must not be published.
    """
    return _pack("pickle", description, estimator, probe)


def pack_batch(description: Description, estimator: Estimator, probe: Features) -> bytes:
    """Return the file of a scikit-learn pipeline fitted on `frames.to_sklearn`; otherwise as `pack_online`."""
    return _pack("skops", description, estimator, probe)


def unpack(content: bytes, trusted: Sequence[str] = ()) -> UnpackedModel:
    """Return the model of bytes that came from `ArtifactStore.get`: a pickle in them runs code.

    `trusted` names the operator's own transformers, exactly and dotted. Raises Corrupt if the layout is not
    ours, a type is not trusted, or a library cannot read what another release of it wrote.
    """
    entries = _entries(content)
    try:
        manifest = Manifest.model_validate_json(entries.pop(_MANIFEST))
    except (KeyError, ValidationError) as error:
        raise Corrupt(f"the artifact's manifest cannot be read: {error}") from error
    form = FORMATS[manifest.format]
    if list(entries) != [form.entry]:
        raise Corrupt(f"the artifact holds {sorted(entries)}, expected {form.entry} beside the manifest")
    try:
        return UnpackedModel(manifest, form.load(entries[form.entry], trusted))
    except Corrupt as error:
        raise Corrupt(
            f"version {manifest.version} of {manifest.model!r}: {error}{_other_libraries(manifest)}"
        ) from error


def _pack(name: Literal["pickle", "skops"], about: Description, estimator: Estimator, probe: Features) -> bytes:
    form = FORMATS[name]
    outputs = form.predict(estimator, _complete(probe, about.shape, np.array([about.known_labels])), about.shape)
    if not np.isfinite(outputs).all():
        raise Corrupt(f"version {about.version} of {about.model!r}: not all outputs for the probe records are finite")
    manifest = Manifest(
        format=name,
        model=about.model,
        version=about.version,
        algorithm=about.algorithm,
        task=about.shape.task,
        numeric=about.shape.numeric,
        categorical=about.shape.categorical,
        classes=about.shape.classes,
        known_labels=tuple(_nullable(np.array(about.known_labels))),
        schema_json=about.schema_json,
        settings=dict(about.settings),
        trained_through_seq=about.trained_through_seq,
        libraries=library_versions(form),
        probe=Probe(
            numeric=[_nullable(row) for row in probe.numeric],
            categorical=probe.categorical.tolist(),
            outputs=outputs.tolist(),
            outputs_sha256=_digest(outputs),
        ),
    )
    return _zip({_MANIFEST: manifest.model_dump_json(by_alias=True).encode(), form.entry: form.dump(estimator)})


def _complete(features: Features, shape: Shape, known: Floats) -> Features:
    if features.numeric.shape[1] == len(shape.numeric):
        return features
    numeric = np.hstack([features.numeric, np.tile(known, (len(features), 1))])
    return Features(numeric=numeric, categorical=features.categorical)


def _zip(entries: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
    return buffer.getvalue()


def _entries(content: bytes) -> dict[str, bytes]:
    """Return the entries after checking, before anything is unpacked, that they are what we write."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            listed = file.infolist()
            _check_entries(listed, len(content))
            return {entry.filename: file.read(entry) for entry in listed}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise Corrupt(f"the artifact is no file of ours: {error}") from error


def _check_entries(listed: Sequence[zipfile.ZipInfo], size: int) -> None:
    known = {_MANIFEST, *(form.entry for form in FORMATS.values())}
    names = [entry.filename for entry in listed]
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= known:  # noqa: PLR2004 - a manifest and a model
        raise Corrupt(f"the artifact holds {names[:5]}, expected {_MANIFEST} and a model")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in listed):
        raise Corrupt("the artifact is compressed or encrypted, expected plain entries")
    if sum(entry.file_size for entry in listed) > size:
        raise Corrupt("the artifact announces more bytes than it has")
    if any(entry.filename == _MANIFEST and entry.file_size > _MAX_MANIFEST_BYTES for entry in listed):
        raise Corrupt(f"the artifact's manifest is larger than {_MAX_MANIFEST_BYTES} bytes")


def _features(probe: Probe) -> Features:
    categorical = np.empty((len(probe.categorical), len(probe.categorical[0]) if probe.categorical else 0), object)
    categorical[:] = probe.categorical
    return Features(numeric=_numbers(probe.numeric), categorical=categorical)


def _numbers(rows: Sequence[Sequence[float | None]]) -> Floats:
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=np.float64)


def _nullable(row: Floats) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in row]


def _digest(outputs: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(outputs).tobytes()).hexdigest()


def _other_libraries(manifest: Manifest) -> str:
    here = library_versions(FORMATS[manifest.format])
    other = [
        f"{name} {packed}, here {here.get(name)}"
        for name, packed in manifest.libraries.items()
        if here.get(name) != packed
    ]
    return f" (packed with {'; '.join(other)})" if other else ""
