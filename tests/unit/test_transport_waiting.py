"""What a worker says while it waits for partitions, or for Kafka."""

import pytest

from stream_app.stream.joining import Joining
from stream_app.stream.reaching import Contact


def test_a_long_wait_for_partitions_is_said_once() -> None:
    joining = Joining(15)
    assert joining.overdue(100.0) is None
    joining.begin(100.0)
    joining.begin(104.0)
    assert joining.overdue(104.9) is None
    assert joining.overdue(105.0) == (
        "waiting for partitions: the group waits up to kafka.session_timeout_s (15 s) for a member that did not say "
        "goodbye"
    )
    assert joining.overdue(200.0) is None


@pytest.mark.parametrize("wait", [1, 2])
def test_the_next_wait_is_one_of_its_own(wait: int) -> None:
    joining = Joining(15)
    for at in range(0, 100 * wait, 100):
        joining.begin(at)
        assert joining.overdue(at + 9.0) is not None
        joining.end()
        assert joining.overdue(at + 50.0) is None


def test_kafka_is_away_since_the_first_question_without_an_answer() -> None:
    contact = Contact()
    assert contact.lost() is None
    contact.note(answered=False, asked_at=0.0)
    contact.note(answered=False, asked_at=60.0)
    assert contact.lost() == "Kafka is not to be reached since 1970-01-01T00:00:00+00:00"
    contact.note(answered=True, asked_at=120.0)
    assert contact.lost() is None
    contact.note(answered=False, asked_at=180.0)
    assert str(contact.lost()).endswith("00:03:00+00:00")
