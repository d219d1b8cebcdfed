"""The killer: seeded, and never out of ideas for long."""

import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from faults.fleet import Fleet, Worker

#: Least and most seconds between two attacks.
PAUSE_S: Final = (0.5, 6.0)
#: A crash, an orderly end, and a sleep that is longer than the session timeout.
ATTACKS: Final = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)


@dataclass(slots=True)
class Killer:
    """Attacks one worker of the fleet after another."""

    fleet: Fleet
    seed: int
    #: seconds that a stopped worker sleeps
    sleep_s: float
    #: by name of the signal
    attacks: Counter[str] = field(default_factory=Counter)
    _chance: random.Random = field(init=False)
    _next: float | None = None
    _asleep: dict[int, tuple[Worker, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take the seed."""
        self._chance = random.Random(self.seed)  # noqa: S311 - a repeatable run, no secret

    def look(self, now: float) -> None:
        """Wake who has slept enough, then attack if it is time; `now` in seconds that never run backwards."""
        for pid, (worker, until) in list(self._asleep.items()):
            if now >= until:
                del self._asleep[pid]
                worker.send(signal.SIGCONT)
        if self._next is None or now >= self._next:
            if self._next is not None:
                self._attack(now)
            self._next = now + self._chance.uniform(*PAUSE_S)

    def _attack(self, now: float) -> None:
        attack, worker = self._chance.choice(ATTACKS), self._chance.choice(self.fleet.workers)
        if attack == signal.SIGSTOP and self._asleep:
            return  # one sleeper at a time: with all of them asleep nothing would be tested
        if worker.stopped or not worker.send(attack):
            return
        self.attacks[attack.name] += 1
        if attack == signal.SIGSTOP:
            self._asleep[worker.pid] = (worker, now + self.sleep_s)

    def rest(self) -> None:
        """Wake everybody and attack no more."""
        for worker, _ in self._asleep.values():
            worker.send(signal.SIGCONT)
        self._asleep.clear()
        self._next = float("inf")
