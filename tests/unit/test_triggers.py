"""When a retrain fires, and what is said when it does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.triggers import (
    Age,
    Cooldown,
    Fire,
    NotAllowed,
    NotYet,
    RetrainPolicy,
    RetrainState,
    Volume,
    any_of,
    policy_of,
)
from stream_app.model_settings import RetrainSettings

STATE = RetrainState(rows=10_000, rows_at_last=0, since=0.0, last_started_at=None, is_queued=False, is_running=False)
BOTH = policy_of(RetrainSettings(every_records=1_000, max_age_s=600, min_rows=100, cooldown_s=60))


def test_volume_counts_rows_since_the_last_retrain() -> None:
    state = replace(STATE, rows_at_last=9_001)
    decision = Volume(1_000).look(state, now=0.0)
    assert isinstance(decision, NotYet)
    assert decision.reason == "not yet: needs 1 more rows"
    assert decision.progress[0].share == pytest.approx(0.999)
    assert Volume(999).look(state, now=0.0) == Fire(trigger="volume", reason="999 new rows, fires at 999")


def test_age_needs_a_new_row() -> None:
    assert isinstance(Age(600).look(STATE, now=600.0), Fire)
    assert isinstance(Age(600).look(STATE, now=599.0), NotYet)
    same = Age(600).look(replace(STATE, rows_at_last=10_000), now=10_000.0)
    assert isinstance(same, NotYet)
    assert same.reason == "not yet: needs a new row"


def test_any_of_fires_with_the_first_and_else_tells_how_far_all_are() -> None:
    triggers = (Volume(20_000), Age(600))
    fired = any_of(triggers, STATE, now=700.0)
    assert isinstance(fired, Fire)
    assert fired.trigger == "age"
    waiting = any_of(triggers, STATE, now=300.0)
    assert isinstance(waiting, NotYet)
    assert [p.trigger for p in waiting.progress] == ["volume", "age"]
    assert waiting.reason == "not yet: needs 10,000 more rows or 300 more seconds"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_running": True}, "a retrain is running"),
        ({"is_queued": True}, "a retrain is queued"),
        ({"rows": 99}, "the log has 99 rows, at least 100 are needed"),
        ({"last_started_at": 650.0}, "cooling down for 10 more of 60 s"),
    ],
)
def test_guards_have_the_last_word(changes: dict[str, object], reason: str) -> None:
    assert isinstance(BOTH.decide(STATE, now=700.0), Fire)
    assert BOTH.decide(replace(STATE, **changes), now=700.0) == NotAllowed(reason=reason)


def test_cooldown_ends_to_the_second() -> None:
    assert Cooldown(60).check(replace(STATE, last_started_at=0.0), now=60.0) is None


def test_without_enabled_nothing_fires_by_itself() -> None:
    decision = policy_of(RetrainSettings(enabled=False, max_age_s=1)).decide(STATE, now=1e9)
    assert decision == NotYet(progress=())
    assert decision.reason == "no trigger is set"


def test_a_trigger_of_another_kind_drops_in() -> None:
    class Always:
        def look(self, state: RetrainState, now: float) -> Fire:
            return Fire(trigger="drift", reason=f"{state.rows} at {now}")

    decision = RetrainPolicy(triggers=(Volume(99_999), Always()), guards=()).decide(STATE, now=1.0)
    assert decision == Fire(trigger="drift", reason="10000 at 1.0")


@given(rows=st.integers(0, 10**9), last=st.integers(0, 10**9), every=st.integers(1, 10**6), now=st.floats(0, 1e9))
def test_progress_is_below_one_until_it_fires(rows: int, last: int, every: int, now: float) -> None:
    state = replace(STATE, rows=max(rows, last), rows_at_last=last)
    decision = Volume(every).look(state, now)
    assert isinstance(decision, Fire) == (state.rows - last >= every)
    assert isinstance(decision, Fire) or 0 <= decision.progress[0].share < 1
