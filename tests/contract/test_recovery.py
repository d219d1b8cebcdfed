"""From any loss of checkpoints back to the very same state, in a time that does not grow with the log."""

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from stream_app.bootstrap import Rooms
from stream_app.core import fold as folding
from stream_app.core.fold import Fold
from stream_app.errors import Corrupt, Misconfigured
from stream_app.ports import Recorder
from stream_app.settings import Settings
from stream_app.storage.tables import checkpoints
from stream_app.values import FoldReport, Window
from stream_app.worker.audit import audit
from tests.contract.proofs import feed, learn, live_hash, probe_hash, proved, settle, steady
from tests.contract.working import PLACE, bench, records

Damage = Callable[[Path], None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return steady(tmp_path)


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of windows that are folded from now on."""
    seqs: list[int] = []
    apply = Fold.apply

    def counted(self: Fold, window: Window) -> FoldReport:
        seqs.append(window.header.seq)
        return apply(self, window)

    monkeypatch.setattr(Fold, "apply", counted)
    return seqs


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what installs another release of a library that the fold digest names."""

    def install() -> None:
        monkeypatch.setattr(folding, "fold_libraries", lambda: {"river": "another"})

    return install


def files_of(settings: Settings) -> list[Path]:
    """Return the checkpoints, oldest first."""
    found = (settings.storage.root / "checkpoints" / "m").glob("*.ckpt")
    return sorted(found, key=lambda path: int(path.name.partition("-")[0]))


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def forge(path: Path) -> None:
    """Put a bomb in its place, with the right digest in the database but no key to sign it with."""
    root = path.parents[2]
    content = pickle.dumps(Bomb(root / "exploded"))
    path.write_bytes(content)
    with Rooms(steady(root)).engine.begin() as connection:
        mine = checkpoints.c.path == str(path.relative_to(root))
        sha256 = hashlib.sha256(content).hexdigest()
        assert connection.execute(update(checkpoints).where(mine).values(sha256=sha256)).rowcount == 1


@pytest.mark.parametrize(
    ("damage", "newest"),
    [(flip, 1), (flip, 9), (cut_short, 1), (empty, 2), (forge, 1), (forge, 9), (Path.unlink, 2)],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_damaged_checkpoint_is_never_loaded_and_the_state_is_the_same(
    settings: Settings, tmp_path: Path, damage: Damage, newest: int, folded: list[int]
) -> None:
    before = await learn(settings, records(480))
    damaged = files_of(settings)[-newest:]
    for path in damaged:
        damage(path)
    folded.clear()
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before
        assert isinstance(made.rooms.observe, Recorder)
        assert [fact for fact, *_ in made.rooms.observe.facts].count("checkpoints_broken") == len(damaged)
    # windows end at 50, 100, …, 450 and 480; checkpoints stand at 3, 6, 9 and 10
    assert folded == list(range({1: 10, 2: 7, 9: 1}[newest], 11))
    assert not (tmp_path / "exploded").exists()


async def test_without_any_checkpoint_the_whole_log_is_folded_to_the_same_state(settings: Settings) -> None:
    before = await learn(settings, records(480))
    shutil.rmtree(settings.storage.root / "checkpoints")
    assert await learn(settings, records(120, start=480), offset=480) != before
    with bench(settings) as made:
        assert proved(made).counts["learned"] == 600


async def test_a_key_that_is_not_ours_makes_every_checkpoint_a_strangers(settings: Settings) -> None:
    before = await learn(settings, records(200))
    storage = settings.storage.model_dump() | {"checkpoint_key": "00" * 32}
    with bench(Settings.model_validate({**settings.model_dump(), "storage": storage})) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before


@pytest.mark.parametrize("rows", [450, 1950])
async def test_recovery_folds_the_windows_since_the_checkpoint_however_long_the_log_is(
    settings: Settings, folded: list[int], rows: int
) -> None:
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        await feed(made, records(rows + 70))
        await settle(made)
        before = probe_hash(made)
    folded.clear()
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before
    assert folded == [rows // 50 + 1]


async def test_refold_gives_what_would_have_been_learned_with_the_new_settings(tmp_path: Path) -> None:
    old, new = {"params": {"l2": 0.1}}, {"params": {"l2": 0.0}}
    expected = await learn(steady(tmp_path / "afresh", online=new), records(420))
    await learn(steady(tmp_path, online=old), records(330))
    changed = steady(tmp_path, online=new, on_change="refold")
    assert await learn(changed, records(90, start=330), offset=330) == expected
    with bench(changed) as made:
        assert proved(made).probe_hash_replayed == expected
    with bench(steady(tmp_path, online=new)) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == expected


async def test_a_changed_library_stops_the_worker_and_says_what_can_be_done(
    settings: Settings, upgrade: Callable[[], None]
) -> None:
    await learn(settings, records(60))
    upgrade()
    with bench(settings) as made, pytest.raises(Misconfigured, match=r"'refold'.*'continue'"):
        await made.handler.assigned([PLACE])


async def stopped_and_upgraded(root: Path, upgrade: Callable[[], None]) -> Settings:
    """Learn 330 records, change a library, and return the settings that go on from there."""
    await learn(steady(root), records(330))
    upgrade()
    return steady(root, on_change="continue")


async def test_continue_goes_on_from_the_learned_state_and_audits_start_there(
    tmp_path: Path, upgrade: Callable[[], None]
) -> None:
    expected = await learn(steady(tmp_path / "unchanged"), records(480))
    settings = await stopped_and_upgraded(tmp_path, upgrade)
    assert await learn(settings, records(150, start=330), offset=330) == expected
    with bench(settings) as made:
        found = proved(made)
        assert found.probe_hash_replayed == found.probe_hash_live == expected
        assert found.rows == 480
    # set back to the default, it is the settled state of affairs
    assert await learn(steady(tmp_path), records(60, start=480), offset=480) != expected


async def test_continue_keeps_its_base_for_ever_and_folds_from_there_when_all_others_are_lost(
    tmp_path: Path, upgrade: Callable[[], None], folded: list[int]
) -> None:
    settings = await stopped_and_upgraded(tmp_path, upgrade)
    before = await learn(settings, records(1200, start=330), offset=330)
    base, *others = files_of(settings)
    assert base.name.startswith("7-")
    for path in others:
        path.unlink()
    folded.clear()
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before
        assert folded == list(range(8, 32))


async def test_a_lost_base_is_noticed_and_only_a_refold_goes_on(tmp_path: Path) -> None:
    forest = {"name": "forest.ARFClassifier", "params": {"n_models": 3}}
    await learn(steady(tmp_path, online=forest, seed=3), records(120))
    changed = steady(tmp_path, online=forest, seed=4, on_change="continue")
    await learn(changed, records(120, start=120), offset=120)
    shutil.rmtree(tmp_path / "checkpoints")
    with bench(changed) as made, pytest.raises(Corrupt, match=r"folds to another state.*refold"):
        await made.handler.assigned([PLACE])
    with bench(changed) as made:
        found = audit(made.rooms.stores, made.rooms.fold("m"), lambda _: None)
        assert any(problem.startswith("I3") for problem in found.problems)
    refolded = changed.model_dump()
    refolded["models"]["m"]["on_change"] = "refold"
    with bench(Settings.model_validate(refolded)) as made:
        await made.handler.assigned([PLACE])


async def test_continue_after_a_crash_takes_the_newest_checkpoint_and_the_windows_after_it(
    tmp_path: Path, upgrade: Callable[[], None]
) -> None:
    with bench(steady(tmp_path)) as made:
        await made.handler.assigned([PLACE])
        await feed(made, records(270))
        await settle(made)
        before = probe_hash(made)
    upgrade()
    settings = steady(tmp_path, on_change="continue")
    with bench(settings) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before
    # an idle worker that continued once needs no further word
    with bench(steady(tmp_path)) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before


async def test_continue_starts_changed_detectors_anew_and_leaves_the_learner_alone(tmp_path: Path) -> None:
    before = await learn(steady(tmp_path), records(330))
    changed = steady(tmp_path, drift={"delta": 0.5, "features": True}, on_change="continue")
    with bench(changed) as made:
        await made.handler.assigned([PLACE])
        assert live_hash(made) == before
        await feed(made, records(120, start=330), offset=330)
        await made.handler.drain()
        proved(made)


async def test_continue_moves_a_state_between_adapters(tmp_path: Path) -> None:
    expected = await learn(steady(tmp_path / "one"), records(480))
    await learn(steady(tmp_path, online={"adapter": "river"}), records(330))
    changed = steady(tmp_path, online={"adapter": "compiled"}, on_change="continue")
    assert await learn(changed, records(150, start=330), offset=330) == expected


async def test_continue_refuses_another_learner_and_names_what_changed(tmp_path: Path) -> None:
    await learn(steady(tmp_path), records(60))
    changed = steady(tmp_path, online={"params": {"l2": 0.5}}, on_change="continue")
    with bench(changed) as made, pytest.raises(Misconfigured, match=r"models\.m\.online: params changed.*'refold'"):
        await made.handler.assigned([PLACE])


async def test_an_audit_with_other_settings_than_the_newest_window_had_proves_nothing(
    tmp_path: Path, settings: Settings
) -> None:
    await learn(settings, records(60))
    with bench(steady(tmp_path, seed=2)) as made:
        found = audit(made.rooms.stores, made.rooms.fold("m"), lambda _: None)
        assert [problem[:2] for problem in found.problems] == ["I3"]


@pytest.fixture
def pruned(tmp_path: Path) -> Settings:
    """Return settings with a log of which retention keeps some 200 rows."""
    settings = steady(tmp_path)
    storage = settings.storage.model_dump() | {"retention_rows": 200}
    return Settings.model_validate({**settings.model_dump(), "storage": storage})


async def test_what_retention_left_is_proved_from_the_checkpoint_that_it_pinned(pruned: Settings) -> None:
    await learn(pruned, records(900))
    with bench(pruned) as made:
        await made.handler.assigned([PLACE])
        await made.handler.tidy()
        assert made.rooms.stores.log.oldest("m") > 1
        await feed(made, records(100, start=900), offset=900)
        await made.handler.drain()
        found = proved(made)
        assert found.rows < 1000
        assert found.probe_hash_replayed == live_hash(made)
