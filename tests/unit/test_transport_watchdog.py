"""A partition is stuck when there is something to read and it does not move; anything else is not."""

from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError, TopicAuthorizationFailedError

from stream_app.errors import Fenced, Misconfigured, Outage
from stream_app.stream.app import exit_code
from stream_app.stream.watchdog import Watchdog

PLACE = ("ground-truth", 2)


def test_lag_without_progress_is_stuck_after_a_while() -> None:
    watchdog = Watchdog(10)
    for now in (0.0, 5.0, 9.9):
        watchdog.look({PLACE: 7}, {PLACE: 9}, now)
        assert watchdog.stuck() is None
    watchdog.look({PLACE: 7}, {PLACE: 12}, 10.0)
    assert watchdog.stuck() == "ground-truth/2 stands at offset 7 for 10 s although 5 offsets follow"


def test_any_progress_starts_the_clock_again() -> None:
    watchdog = Watchdog(10)
    for position, now in ((7, 0.0), (8, 9.0), (8, 18.0)):
        watchdog.look({PLACE: position}, {PLACE: 100}, now)
    assert watchdog.stuck() is None
    assert watchdog.lag == {PLACE: 92}


def test_a_partition_at_its_end_may_stand_for_ever() -> None:
    watchdog = Watchdog(10)
    for now in (0.0, 1_000.0):
        watchdog.look({PLACE: 9}, {PLACE: 9}, now)
    assert watchdog.stuck() is None
    watchdog.look({PLACE: 9}, {PLACE: 10}, 1_001.0)
    assert watchdog.stuck() is None


def test_a_partition_that_left_is_forgotten() -> None:
    watchdog = Watchdog(10)
    watchdog.look({PLACE: 7}, {PLACE: 9}, 0.0)
    watchdog.look({}, {}, 5.0)
    watchdog.look({PLACE: 7}, {PLACE: 9}, 20.0)
    assert watchdog.stuck() is None


def test_exit_codes_say_what_to_do() -> None:
    assert exit_code(None) == 0
    assert exit_code(Fenced()) == 70
    assert exit_code(Outage()) == 75
    assert exit_code(Misconfigured()) == 78
    assert exit_code(ValueError()) == 1


def test_errors_of_the_client_have_the_exit_codes_of_what_they_mean() -> None:
    assert exit_code(KafkaConnectionError()) == 75
    assert exit_code(TopicAuthorizationFailedError("t")) == 78
    assert exit_code(GroupAuthorizationFailedError()) == 78
