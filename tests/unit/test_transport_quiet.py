"""Complaints of Kafka's clients are heard, but not a hundred times."""

import logging

import pytest

from stream_app.kafka.quiet import Seldom, quieten


def _record(name: str, text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)


def test_the_same_complaint_is_heard_once() -> None:
    seldom = Seldom(60)
    assert seldom.filter(_record("aiokafka", "cannot reach %s", "a"))
    assert not seldom.filter(_record("aiokafka", "cannot reach %s", "b"))
    assert seldom.filter(_record("aiokafka", "cannot commit"))


def test_librdkafka_is_told_apart_by_what_it_is_about() -> None:
    seldom = Seldom(60)
    assert seldom.filter(_record("stream_app.librdkafka", "%s [%s] %s", "FAIL", "x", "y"))
    assert seldom.filter(_record("stream_app.librdkafka", "%s [%s] %s", "FATAL", "x", "y"))
    assert not seldom.filter(_record("stream_app.librdkafka", "%s [%s] %s", "FAIL", "x", "z"))


def test_it_is_heard_again_after_a_while() -> None:
    seldom = Seldom(0)
    assert all(seldom.filter(_record("aiokafka", "cannot")) for _ in range(2))


def test_a_whole_family_is_quietened(caplog: pytest.LogCaptureFixture) -> None:
    child = logging.getLogger("noisy_family.child")
    quieten("noisy_family")
    child.info("all is well")
    for _ in range(3):
        child.error("cannot")
    logging.getLogger("noisy_family_friend").error("not related")
    assert [record.getMessage() for record in caplog.records] == ["cannot", "not related"]
