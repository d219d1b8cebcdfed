"""From an event to a model that has proved itself: verify, fetch, verify, unpack, warm."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol

import orjson
from pydantic import ValidationError

from stream_app.core.schema import Schema
from stream_app.errors import Corrupt, Outage
from stream_app.messages import ModelUpdated, ServingEntry
from stream_app.ports import Clock
from stream_app.storage.packing import Manifest, unpack
from stream_app.storage.signing import Verifier, verify_event
from stream_app.subscriber.slot import LoadedModel
from stream_app.values import StoredArtifact

#: Pauses before an absent artifact is looked for again: about three seconds in all.
_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_MOST_REMEMBERED: Final = 1000


class Reason(StrEnum):
    """Why something was refused."""

    #: the event cannot be read, or is not signed by the publisher
    EVENT = "event"
    #: the artifact's bytes, layout, types or answers are not what the publisher signed
    ARTIFACT = "artifact"
    #: the artifact could not be fetched; the next reconciliation tries again
    ABSENT = "absent"


class Refused(Exception):  # noqa: N818 - named for what it is
    """An event or artifact that does not get to serve."""

    def __init__(self, reason: Reason, message: str) -> None:
        """`reason` becomes a metric label, `message` is for people."""
        super().__init__(message)
        self.reason = reason


class ArtifactSource(Protocol):
    """Where verified bytes come from."""

    def get(self, artifact: StoredArtifact) -> bytes:
        """Return the bytes after checking size, digest and signature; raises Corrupt, or Outage if absent."""


class Memory:
    """Remembers the newest few of what was refused, so that it is neither tried nor reported again."""

    def __init__(self) -> None:
        self._refused: dict[str, None] = {}

    def __contains__(self, digest: str) -> bool:
        """Return whether it was refused lately."""
        return digest in self._refused

    def add(self, digest: str) -> None:
        """Remember it, and forget the oldest when there are too many."""
        self._refused[digest] = None
        if len(self._refused) > _MOST_REMEMBERED:
            del self._refused[next(iter(self._refused))]


class EventReader:
    """Reads events that the publisher signed."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._refused = Memory()

    def newest(
        self, model: str, values: Iterable[bytes], *, above: int, refuse: Callable[[Refused], None]
    ) -> ModelUpdated | None:
        """Return the newest true event about a model with promotion_seq > `above`, None if there is none.

        Verified from the greatest claim down, so that a long topic costs one verification a batch, and a
        forged event with a great claim hides nothing. What is refused is handed to `refuse`, once.
        """
        for claimed, value in sorted(((_claim(value), value) for value in values), reverse=True):
            if claimed <= above:
                return None
            digest = hashlib.sha256(value).hexdigest()
            if digest in self._refused:
                continue
            try:
                return self._verified(model, value)
            except (ValidationError, Corrupt) as error:
                self._refused.add(digest)
                refuse(Refused(Reason.EVENT, f"no event about {model!r} from the publisher: {error}"))
        return None

    def _verified(self, model: str, value: bytes) -> ModelUpdated:
        event = ModelUpdated.model_validate_json(value)
        verify_event(event, self._verifier)
        if event.model != model:
            raise Corrupt(f"it is about {event.model!r}")
        return event


def _claim(value: bytes) -> int:
    """Return the promotion_seq that unverified bytes claim; what claims none is looked at first, and refused."""
    try:
        return int(orjson.loads(value)["promotion_seq"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return sys.maxsize


class Loader:
    """Loads artifacts and remembers which of them are bad."""

    def __init__(
        self, artifacts: ArtifactSource, *, trusted: Sequence[str], clock: Clock, wait: Callable[[float], bool]
    ) -> None:
        """`wait(seconds)` pauses and returns True when there is no point in going on."""
        self._artifacts = artifacts
        self._trusted = trusted
        self._clock = clock
        self._wait = wait
        self._refused = Memory()

    def load(self, event: ModelUpdated) -> LoadedModel | None:
        """Return the champion of a verified event, warm; None if it was refused before. Raises Refused."""
        entry = _champion(event)
        if entry.sha256 in self._refused:
            return None
        try:
            return self._prepare(event, entry)
        except Outage as error:
            raise Refused(Reason.ABSENT, str(error)) from error
        except Corrupt as error:
            self._refused.add(entry.sha256)
            raise Refused(Reason.ARTIFACT, str(error)) from error

    def _prepare(self, event: ModelUpdated, entry: ServingEntry) -> LoadedModel:
        """Fetch and verify, unpack, and predict the probe records, which also warms every cache on the way."""
        unpacked = unpack(self._fetch(entry), self._trusted)
        _check_identity(event, entry, unpacked.manifest)
        unpacked.check()
        return LoadedModel(
            model=event.model,
            version=entry.version,
            digest=entry.sha256,
            promotion_seq=event.promotion_seq,
            algorithm=entry.algorithm,
            trained_through_seq=entry.trained_through_seq,
            trained_through_at=entry.trained_through_at,
            loaded_at=self._clock(),
            schema=_schema(unpacked.manifest),
            unpacked=unpacked,
        )

    def _fetch(self, entry: ServingEntry) -> bytes:
        artifact = StoredArtifact(path=entry.path, sha256=entry.sha256, size=entry.size, signature=entry.signature)
        for pause_s in _PAUSES_S:
            try:
                return self._artifacts.get(artifact)
            except Outage:
                # Other stores show a new object late; the event only ever follows the artifact.
                if self._wait(pause_s):
                    raise
        return self._artifacts.get(artifact)


def _champion(event: ModelUpdated) -> ServingEntry:
    for entry in event.serving:
        if entry.role == "champion":
            return entry
    raise Refused(Reason.EVENT, f"publication {event.promotion_seq} of {event.model!r} names no champion")


def _check_identity(event: ModelUpdated, entry: ServingEntry, manifest: Manifest) -> None:
    if (manifest.model, manifest.version) != (event.model, entry.version):
        raise Corrupt(
            f"the artifact holds version {manifest.version} of {manifest.model!r}, "
            f"expected version {entry.version} of {event.model!r}"
        )


def _schema(manifest: Manifest) -> Schema:
    try:
        return Schema.from_json(manifest.record_schema)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"the artifact's schema cannot be read: {error!r}") from error
