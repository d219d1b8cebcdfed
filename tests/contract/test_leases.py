"""Leases: one holder at a time, whoever asks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from stream_app.ports import Leases
from stream_app.storage.leases import SqlLeases
from stream_app.testing import InMemoryLeases


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def leases(request: pytest.FixtureRequest) -> Leases:
    if request.param == "memory":
        return InMemoryLeases()
    return SqlLeases(request.getfixturevalue(f"{request.param}_engine"))


def test_a_lease_has_one_holder(leases: Leases) -> None:
    assert leases.acquire("relay", holder="a", now=0, lease_s=10)
    assert not leases.acquire("relay", holder="b", now=9, lease_s=10)
    assert leases.acquire("triggers", holder="b", now=9, lease_s=10)


def test_the_holder_renews(leases: Leases) -> None:
    leases.acquire("relay", holder="a", now=0, lease_s=10)
    assert leases.acquire("relay", holder="a", now=9, lease_s=10)
    assert not leases.acquire("relay", holder="b", now=18, lease_s=10)


def test_a_lease_that_ran_out_is_taken_over_once(leases: Leases) -> None:
    leases.acquire("relay", holder="a", now=0, lease_s=10)
    assert leases.acquire("relay", holder="b", now=10, lease_s=10)
    assert not leases.acquire("relay", holder="a", now=11, lease_s=10)


def test_only_the_holder_gives_it_back(leases: Leases) -> None:
    leases.acquire("relay", holder="a", now=0, lease_s=10)
    leases.release("relay", holder="b")
    assert not leases.acquire("relay", holder="b", now=1, lease_s=10)
    leases.release("relay", holder="a")
    assert leases.acquire("relay", holder="b", now=1, lease_s=10)


def test_of_many_at_once_one_gets_it(leases: Leases) -> None:
    """Both the first lease and one that ran out."""
    for now in (0.0, 10.0, 20.0):

        def acquire(holder: str, now: float = now) -> bool:
            return leases.acquire("relay", holder=f"{holder} at {now}", now=now, lease_s=10)

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(acquire, "abcdefgh")) == 1
