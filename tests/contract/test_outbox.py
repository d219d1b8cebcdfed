"""The outbox: in order, each until it was sent, the current pointers for ever."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine

from stream_app.messages import LABEL_JOINED
from stream_app.ports import Outbox, OutboxMessage
from stream_app.storage.outbox import SqlOutbox
from stream_app.storage.tables import outbox as table
from stream_app.testing import InMemoryOutbox


class Both:
    """The outbox under test, and the way into it of an owner's transaction."""

    def __init__(self, outbox: Outbox, engine: Engine | None) -> None:
        self.outbox = outbox
        self._engine = engine
        self._count = 0

    def owe(self, model: str, promotion_seq: int | None = None, type_: str = "t") -> None:
        self._count += 1
        row: dict[str, Any] = {
            "model": model,
            "event_id": f"{model}:{self._count}",
            "type": type_,
            "topic": "model-updated" if promotion_seq else "learning-events",
            "key": model.encode(),
            "value": b"value %d" % self._count,
            "created_at": float(self._count),
        }
        if self._engine is None:
            assert isinstance(self.outbox, InMemoryOutbox)
            self.outbox.owe(OutboxMessage(id=0, **row), promotion_seq=promotion_seq)
            return
        with self._engine.begin() as connection:
            connection.execute(table.insert().values(row | {"promotion_seq": promotion_seq}))


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "memory":
        return Both(InMemoryOutbox(), None)
    engine = request.getfixturevalue(f"{request.param}_engine")
    return Both(SqlOutbox(engine, learning_events="learning-events"), engine)


def values(messages: Sequence[OutboxMessage]) -> list[bytes]:
    return [message.value for message in messages]


def test_what_is_owed_comes_in_order_until_it_was_sent(both: Both) -> None:
    for model in "mnm":
        both.owe(model)
    messages = both.outbox.unsent()
    assert values(messages) == [b"value 1", b"value 2", b"value 3"]
    assert (messages[1].model, messages[1].key, messages[1].event_id) == ("n", b"n", "n:2")
    both.outbox.mark_sent([messages[0].id, messages[2].id], now=5)
    assert both.outbox.unsent() == [messages[1]]
    both.outbox.mark_sent([], now=5)


def test_joined_labels_hold_nothing_else_up(both: Both) -> None:
    for type_ in (LABEL_JOINED, LABEL_JOINED, "t", LABEL_JOINED, "t"):
        both.owe("m", type_=type_)
    messages = both.outbox.unsent()
    assert values(messages) == [b"value 3", b"value 5", b"value 1", b"value 2", b"value 4"]
    assert values(both.outbox.unsent(limit=3)) == [b"value 3", b"value 5", b"value 1"]
    assert values(both.outbox.unsent(limit=1)) == [b"value 3"]
    both.outbox.mark_sent([message.id for message in messages[:4]], now=5)
    assert values(both.outbox.unsent()) == [b"value 4"]


def test_a_limit_is_kept(both: Both) -> None:
    for _ in range(5):
        both.owe("m")
    assert values(both.outbox.unsent(limit=2)) == [b"value 1", b"value 2"]


def test_the_pointer_of_each_model_is_its_greatest_promotion(both: Both) -> None:
    """Sent or not, and whatever else came later."""
    for model, promotion_seq in [("m", 1), ("n", 1), ("m", 2), ("m", None), ("n", None)]:
        both.owe(model, promotion_seq)
    both.outbox.mark_sent([message.id for message in both.outbox.unsent()], now=5)
    assert values(both.outbox.pointers()) == [b"value 2", b"value 3"]


def test_without_publications_there_are_no_pointers(both: Both) -> None:
    both.owe("m")
    assert both.outbox.pointers() == []


def test_a_noted_event_is_owed(both: Both) -> None:
    both.outbox.note("m", "io.stream_app.retrain.started.v1", b"{}", now=7.5)
    both.outbox.note("m", "io.stream_app.retrain.started.v1", b"{}", now=7.5)
    first, second = both.outbox.unsent()
    assert (first.model, first.key, first.value, first.topic) == ("m", b"m", b"{}", "learning-events")
    assert (first.type, first.created_at) == ("io.stream_app.retrain.started.v1", 7.5)
    assert first.event_id != second.event_id


def test_old_sent_messages_are_forgotten_but_no_pointer_and_nothing_unsent(both: Both) -> None:
    for promotion_seq in (1, 2, None):
        both.owe("m", promotion_seq)
    both.outbox.mark_sent([message.id for message in both.outbox.unsent()], now=5)
    both.owe("m")
    assert both.outbox.forget_sent(before=5) == 0
    assert both.outbox.forget_sent(before=6) == 2
    assert values(both.outbox.pointers()) == [b"value 2"]
    assert values(both.outbox.unsent()) == [b"value 4"]
