"""When to retrain in full: values that look at a model's state and the time, and say why, or why not yet.

Each trigger answers for itself, `any_of` fires with the first that does, and guards have the last word. A new
kind of trigger is a new value with `look`; nothing here knows which there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from stream_app.model_settings import RetrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainState:
    """What there is to look at; times in seconds since the epoch."""

    #: rows in the log
    rows: int
    #: rows that the log had when the newest ended retrain read it, 0 before the first
    rows_at_last: int
    #: when the newest ended retrain ended, however it ended; before the first: when the model was created
    since: float
    #: when the newest retrain started, None before the first
    last_started_at: float | None
    is_queued: bool
    is_running: bool
    #: whether triggers may start retrains at all; people turn it off and on
    is_on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """Retrain now."""

    #: the kind of trigger, e.g. "volume"
    trigger: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one trigger is."""

    trigger: str
    #: from 0 to 1, at which it fires
    share: float
    #: what is missing, e.g. "25 more rows"
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """No trigger fires; an empty progress means that there is none."""

    progress: tuple[Progress, ...]

    @property
    def reason(self) -> str:
        """What is missing, in words."""
        missing = " or ".join(p.missing for p in self.progress)
        return f"not yet: needs {missing}" if missing else "no trigger is set"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAllowed:
    """Whatever the triggers say, now is not the time."""

    reason: str


Decision: TypeAlias = Fire | NotYet | NotAllowed


class Trigger(Protocol):
    """A reason to retrain."""

    def look(self, state: RetrainState, now: float) -> Fire | NotYet:
        """Say whether to retrain, or how far it is until then."""


class Guard(Protocol):
    """A reason not to."""

    def check(self, state: RetrainState, now: float) -> NotAllowed | None:
        """Return why a retrain must not start, None if it may."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Fires when so many rows have come since the newest retrain read the log."""

    every_records: int

    def look(self, state: RetrainState, now: float) -> Fire | NotYet:  # noqa: ARG002 - the face of triggers
        """Compare rows."""
        new = state.rows - state.rows_at_last
        if new >= self.every_records:
            return Fire(trigger="volume", reason=f"{new:,} new rows, fires at {self.every_records:,}")
        return _not_yet("volume", new / self.every_records, f"{self.every_records - new:,} more rows")


@dataclass(frozen=True, slots=True)
class Age:
    """Fires when the newest retrain is so old; never without a new row, which could only give the same model."""

    max_age_s: float

    def look(self, state: RetrainState, now: float) -> Fire | NotYet:
        """Compare times."""
        age_s = now - state.since
        if age_s < self.max_age_s:
            return _not_yet("age", age_s / self.max_age_s, f"{self.max_age_s - age_s:,.0f} more seconds")
        if state.rows <= state.rows_at_last:
            return _not_yet("age", 1.0, "a new row")
        return Fire(trigger="age", reason=f"{age_s:,.0f} s since the last retrain, fires at {self.max_age_s:,.0f} s")


@dataclass(frozen=True, slots=True)
class Switch:
    """Lets people stop automatic retraining."""

    def check(self, state: RetrainState, now: float) -> NotAllowed | None:  # noqa: ARG002 - the face of guards
        """Look at the switch."""
        return None if state.is_on else NotAllowed(reason="automatic retraining is stopped")


@dataclass(frozen=True, slots=True)
class SingleFlight:
    """One retrain of a model at a time, and none queued behind it by a trigger."""

    def check(self, state: RetrainState, now: float) -> NotAllowed | None:  # noqa: ARG002 - the face of guards
        """Look for another one."""
        if state.is_running:
            return NotAllowed(reason="a retrain is running")
        return NotAllowed(reason="a retrain is queued") if state.is_queued else None


@dataclass(frozen=True, slots=True)
class Cooldown:
    """Keeps two starts apart."""

    seconds: float

    def check(self, state: RetrainState, now: float) -> NotAllowed | None:
        """Compare times."""
        if state.last_started_at is None or now - state.last_started_at >= self.seconds:
            return None
        left_s = self.seconds - (now - state.last_started_at)
        return NotAllowed(reason=f"cooling down for {left_s:,.0f} more of {self.seconds:,.0f} s")


@dataclass(frozen=True, slots=True)
class MinRows:
    """Refuses to start before there is enough to learn from."""

    rows: int

    def check(self, state: RetrainState, now: float) -> NotAllowed | None:  # noqa: ARG002 - the face of guards
        """Compare rows."""
        if state.rows >= self.rows:
            return None
        return NotAllowed(reason=f"the log has {state.rows:,} rows, at least {self.rows:,} are needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainPolicy:
    """When a model is retrained."""

    triggers: tuple[Trigger, ...]
    guards: tuple[Guard, ...]

    def decide(self, state: RetrainState, now: float) -> Decision:
        """Return what to do, with its reason: guards first, then any of the triggers."""
        for guard in self.guards:
            refusal = guard.check(state, now)
            if refusal is not None:
                return refusal
        return any_of(self.triggers, state, now)


def any_of(triggers: Sequence[Trigger], state: RetrainState, now: float) -> Fire | NotYet:
    """Return the first that fires, else how far all of them are."""
    progress: list[Progress] = []
    for trigger in triggers:
        answer = trigger.look(state, now)
        if isinstance(answer, Fire):
            return answer
        progress += answer.progress
    return NotYet(progress=tuple(progress))


def policy_of(settings: RetrainSettings) -> RetrainPolicy:
    """Return the policy that the settings describe; without `enabled` it has no triggers."""
    triggers: list[Trigger] = []
    if settings.enabled and settings.every_records is not None:
        triggers.append(Volume(settings.every_records))
    if settings.enabled and settings.max_age_s is not None:
        triggers.append(Age(settings.max_age_s))
    guards = (Switch(), SingleFlight(), MinRows(settings.min_rows), Cooldown(settings.cooldown_s))
    return RetrainPolicy(triggers=tuple(triggers), guards=guards)


def _not_yet(trigger: str, share: float, missing: str) -> NotYet:
    return NotYet(progress=(Progress(trigger=trigger, share=share, missing=missing),))
