"""The killer of the fault suite is repeatable, wakes whom it put to sleep, and never sleeps all of them at once."""

import signal
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from faults.fleet import Fleet, Worker
from faults.killer import Killer

SLEEP_S = 8.0


@dataclass
class Victim(Worker):
    """A worker without a process, which keeps what it was sent and when."""

    received: list[tuple[float, str]] = field(default_factory=list)
    now: float = 0.0

    def send(self, signal_: signal.Signals) -> bool:
        self.received.append((self.now, signal_.name))
        self.stopped = signal_ == signal.SIGSTOP or (self.stopped and signal_ != signal.SIGCONT)
        return True

    @property
    def pid(self) -> int:
        return id(self)


def attacked(seed: int, seconds: int = 120) -> list[Victim]:
    """Return three victims after so long a time."""
    victims = [Victim([], Path()) for _ in range(3)]
    fleet = Fleet(0, Path(), Path())
    fleet.workers = [*victims]
    killer = Killer(fleet, seed, SLEEP_S)
    for tenth in range(10 * seconds):
        for victim in victims:
            victim.now = tenth / 10
        killer.look(tenth / 10)
    killer.rest()
    return victims


def test_the_same_seed_attacks_the_same_way() -> None:
    assert [v.received for v in attacked(1)] == [v.received for v in attacked(1)]
    assert [v.received for v in attacked(1)] != [v.received for v in attacked(2)]


def test_every_kind_of_attack_comes_up_and_nobody_is_spared() -> None:
    victims = attacked(1)
    assert {name for v in victims for _, name in v.received} == {"SIGKILL", "SIGTERM", "SIGSTOP", "SIGCONT"}
    assert all(v.received for v in victims)


def test_who_was_put_to_sleep_is_woken_after_its_time_and_nobody_sleeps_beside_it() -> None:
    for seed in range(20):
        sleeps = sorted(
            (at, woken) for v in attacked(seed) for (at, name), (woken, _) in pairwise(v.received) if name == "SIGSTOP"
        )
        assert all(SLEEP_S - 0.2 <= woken - at <= SLEEP_S + 0.2 or woken == 119.9 for at, woken in sleeps)
        assert all(woken <= at for (_, woken), (at, _) in pairwise(sleeps))


def test_nobody_is_left_asleep() -> None:
    assert not any(v.stopped for seed in range(20) for v in attacked(seed))
