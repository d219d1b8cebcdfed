"""Whether the server lives, can answer, and what is missing, in the shape of worker and trainer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from stream_app.ports import Clock, Observer

Check: TypeAlias = Callable[[], str | None]

#: A subscriber that finds the broker away says so at least this often.
_SILENCE_S: Final = 15.0


@dataclass(slots=True, kw_only=True)
class Health:
    """The checks of a server."""

    #: what /metrics says, and the content type of that
    exposition: Callable[[], bytes]
    content_type: str
    #: by name: is the process itself alive; if not, it should be started again
    live: Mapping[str, Check] = field(default_factory=dict)
    #: by name: without these it cannot answer
    needed: Mapping[str, Check] = field(default_factory=dict)
    #: by name: without these it answers, but something waits
    wanted: Mapping[str, Check] = field(default_factory=dict)
    #: called once, when the process is asked to end
    on_drain: Callable[[], None] = lambda: None
    is_draining: bool = False

    def drain(self) -> None:
        """Say from now on that nobody shall come any more: whoever balances load looks elsewhere."""
        if not self.is_draining:
            self.is_draining = True
            self.on_drain()

    def alive(self) -> tuple[int, Mapping[str, Any]]:
        """Return status and body of /livez."""
        troubles = {name: check() for name, check in self.live.items()}
        return _answer("failing" if any(troubles.values()) else "ok", troubles)

    def ready(self) -> tuple[int, Mapping[str, Any]]:
        """Return status and body of /readyz: 503 when it cannot answer, 200 and "degraded" when something waits."""
        needed = {name: check() for name, check in self.needed.items()}
        wanted = {name: check() for name, check in self.wanted.items()}
        if self.is_draining:
            needed["server"] = "it was asked to end"
        status = "failing" if any(needed.values()) else "degraded" if any(wanted.values()) else "ok"
        return _answer(status, needed | wanted)


def _answer(status: str, troubles: Mapping[str, str | None]) -> tuple[int, Mapping[str, Any]]:
    checks = {name: {"ok": not trouble, "detail": trouble or ""} for name, trouble in troubles.items()}
    return (503 if status == "failing" else 200), {"status": status, "checks": checks}


class Contact:
    """Hears the subscriber's reports, hands them on, and remembers when the broker was away."""

    def __init__(self, observe: Observer, *, clock: Clock) -> None:
        self._observe = observe
        self._clock = clock
        self._away_at: float | None = None

    def __call__(self, fact: str, /, *, amount: float = 1.0, **labels: str) -> None:
        """Hear a fact."""
        if fact == "subscriber_outage":
            self._away_at = self._clock()
        self._observe(fact, amount=amount, **labels)

    def lost(self) -> str | None:
        """Return in words that the broker was away a moment ago, None if it was not."""
        if self._away_at is None or self._clock() - self._away_at > _SILENCE_S:
            return None
        return "the broker cannot be reached: no newer models come in"
