"""From event to model: the newest true event wins, absent bytes are waited for, bad ones are met once."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from river import linear_model

from stream_app.core.schema import Field, Schema
from stream_app.errors import Corrupt, Outage
from stream_app.messages import ModelUpdated, ServingEntry
from stream_app.storage.packing import Description, pack_online
from stream_app.storage.signing import Signer, sign_event
from stream_app.subscriber.loader import EventReader, Loader, Reason, Refused
from stream_app.values import Features, StoredArtifact, Task

SIGNER, FORGER = (Signer(Ed25519PrivateKey.generate()) for _ in range(2))
SCHEMA = Schema(task=Task.BINARY, target="y", fields=(Field(name="a", type="number"),), classes=(0, 1))


def event(promotion_seq: int, *, signer: Signer = SIGNER, model: str = "m", version: str = "3") -> ModelUpdated:
    entry = ServingEntry(
        role="champion",
        weight=1.0,
        version=version,
        algorithm="test",
        path="m/3.zip",
        sha256="0" * 64,
        size=10,
        signature="s",
        trained_through_seq=7,
        trained_through_at=1.5,
    )
    return sign_event(ModelUpdated(model=model, promotion_seq=promotion_seq, serving=[entry], published_at=2), signer)


def encoded(*events: ModelUpdated) -> list[bytes]:
    return [each.model_dump_json().encode() for each in events]


TRUE = encoded(*(event(n) for n in range(1, 9)))
FORGED = encoded(*(event(n, signer=FORGER) for n in range(1, 9)))
NOISE = [b"", b"{", b"[]", b"{}", b'{"promotion_seq": null}', b'{"promotion_seq": 99}', *encoded(event(9, model="n"))]


@given(
    true=st.sets(st.integers(1, 8)),
    others=st.lists(st.sampled_from(FORGED + NOISE)),
    above=st.integers(0, 8),
    order=st.randoms(use_true_random=False),
)
def test_the_newest_true_event_is_found_whatever_lies_around_it(
    true: set[int], others: list[bytes], above: int, order: random.Random
) -> None:
    values = [TRUE[n - 1] for n in true] + others
    order.shuffle(values)
    refused: list[Refused] = []
    found = EventReader(SIGNER.verifier()).newest("m", values, above=above, refuse=refused.append)
    assert (found.promotion_seq if found else above) == max([above, *true])
    assert all(each.reason is Reason.EVENT for each in refused)
    assert len(refused) <= len(set(others))


def test_what_was_refused_is_reported_once() -> None:
    reader, refused = EventReader(SIGNER.verifier()), list[Refused]()
    for _ in range(3):
        assert reader.newest("m", [*FORGED, *NOISE], above=0, refuse=refused.append) is None
    assert len(refused) == len(FORGED) + len(NOISE)


@dataclass
class Source:
    """Gives what it has, or raises what it was told to."""

    answer: bytes | Exception
    asked: list[StoredArtifact] = field(default_factory=list)

    def get(self, artifact: StoredArtifact) -> bytes:
        self.asked.append(artifact)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def load(source: Source, given: ModelUpdated | None = None, wait: Callable[[float], bool] = lambda _: False) -> None:
    Loader(source, trusted=(), clock=lambda: 5.0, wait=wait).load(given or event(1))


def packed(version: str = "3", schema_json: str | None = None) -> bytes:
    about = Description(
        model="m",
        version=version,
        algorithm="test",
        schema_json=schema_json or SCHEMA.to_json(),
        shape=SCHEMA.shape,
        trained_through_seq=1,
    )
    rows = Features(numeric=np.ones((2, 1)), categorical=np.empty((2, 0), dtype=object))
    return pack_online(about, linear_model.LogisticRegression(), rows)


def test_a_good_artifact_becomes_a_model() -> None:
    source = Source(packed())
    loaded = Loader(source, trusted=(), clock=lambda: 5.0, wait=lambda _: False).load(event(4))
    assert loaded is not None
    assert (loaded.version, loaded.promotion_seq, loaded.loaded_at, loaded.trained_through_at) == ("3", 4, 5.0, 1.5)
    assert source.asked == [StoredArtifact(path="m/3.zip", sha256="0" * 64, size=10, signature="s")]
    assert loaded.predict([{"a": 1}])[0].output == 0.5


def test_absent_bytes_are_waited_for_within_bounds() -> None:
    source, pauses = Source(Outage("not there")), list[float]()
    with pytest.raises(Refused, match="not there") as caught:
        load(source, wait=lambda pause_s: bool(pauses.append(pause_s)))
    assert caught.value.reason is Reason.ABSENT
    assert (len(source.asked), sum(pauses)) == (6, pytest.approx(3.1))


def test_waiting_ends_at_once_when_there_is_no_point() -> None:
    source = Source(Outage("not there"))
    with pytest.raises(Refused):
        load(source, wait=lambda _: True)
    assert len(source.asked) == 1


def test_absent_bytes_are_looked_for_again_later() -> None:
    source = Source(Outage("not there"))
    loader = Loader(source, trusted=(), clock=lambda: 5.0, wait=lambda _: True)
    with pytest.raises(Refused):
        loader.load(event(1))
    source.answer = packed()
    assert loader.load(event(1)) is not None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Corrupt("another digest"), "another digest"),
        (b"no model", "no file of ours"),
        (packed(version="4"), "holds version 4 of 'm', expected version 3 of 'm'"),
        (packed(schema_json="{}"), "schema cannot be read"),
    ],
)
def test_a_bad_artifact_is_refused_and_never_fetched_again(answer: bytes | Exception, message: str) -> None:
    source = Source(answer)
    loader = Loader(source, trusted=(), clock=lambda: 5.0, wait=lambda _: False)
    with pytest.raises(Refused, match=message) as caught:
        loader.load(event(1))
    assert caught.value.reason is Reason.ARTIFACT
    assert loader.load(event(2)) is None
    assert len(source.asked) == 1


def test_an_event_without_a_champion_is_refused() -> None:
    shadow = event(1).serving[0].model_copy(update={"role": "shadow"})
    with pytest.raises(Refused, match="names no champion"):
        load(Source(packed()), event(1).model_copy(update={"serving": [shadow]}))
