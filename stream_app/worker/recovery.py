"""From the log back to the state: the newest checkpoint that verifies, and the windows after it."""

from collections.abc import Callable
from dataclasses import dataclass

from stream_app.core.fold import Fold
from stream_app.crashpoints import crashpoint
from stream_app.errors import Corrupt, Misconfigured
from stream_app.model_settings import ModelSettings
from stream_app.ports import Stores
from stream_app.values import FoldReport, Tenure, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Where a recovery arrived."""

    fold: Fold
    #: window of the checkpoint it started from, 0 without one
    checkpoint_seq: int
    #: the newest window and its report, if its effects may still have to be stored
    newest: tuple[Window, FoldReport] | None
    #: whether the state was carried over from another fold digest: later folds must start from here
    is_base: bool


def recover(stores: Stores, settings: ModelSettings, tenure: Tenure, fresh: Callable[[], Fold]) -> Recovered:
    """Fold the model's log up to its newest window.

    1. the newest checkpoint whose digest and HMAC verify and that has our fold digest; else from the start
    2. if the log was folded with other settings or libraries: stop, carry its newest state over, or refold
    3. the windows after it, in order; the time this takes depends on the checkpoint interval, not on the log
    Raises Misconfigured if step 2 stops, and Corrupt if the log folds to another state than was learned.
    """
    crashpoint("recover_started")
    fold = fresh()
    checkpoint_seq = _from_checkpoint(stores, tenure, fold)  # 1
    is_base = _is_changed(stores, tenure, fold) and _is_continued(settings, tenure)  # 2
    if is_base:
        fold = fresh()
        checkpoint_seq = _carried_over(stores, tenure, fold)
    newest = None
    for window in stores.log.windows(tenure.model, after=fold.seq, through=tenure.seq):  # 3
        newest = (window, fold.apply(window))
        if window.header.seq == tenure.effects_seq and settings.on_change != "refold":
            _prove(stores, *newest, fold.digest)
    crashpoint("recover_folded")
    if fold.seq != tenure.seq:
        raise Corrupt(f"{tenure.model}: the log ends at window {tenure.seq}, but only {fold.seq} could be folded")
    return Recovered(fold=fold, checkpoint_seq=checkpoint_seq, newest=newest, is_base=is_base)


def _from_checkpoint(stores: Stores, tenure: Tenure, fold: Fold) -> int:
    # never newer than the stored effects: a window whose effects are missing must be folded again
    for checkpoint in stores.checkpoints.newest(tenure.model, through=tenure.effects_seq):
        if checkpoint.fold_digest == fold.digest:
            fold.restore(checkpoint.state)
            return checkpoint.seq
    return 0


def _is_changed(stores: Stores, tenure: Tenure, fold: Fold) -> bool:
    """Return whether the newest window was folded with another digest, and no state of ours stands behind it."""
    if fold.seq == tenure.seq:
        return False
    newest = next(iter(stores.log.windows(tenure.model, after=tenure.seq - 1, through=tenure.seq)))
    return newest.header.fold_digest != fold.digest


def _is_continued(settings: ModelSettings, tenure: Tenure) -> bool:
    """Return whether the state goes on under another digest; raises Misconfigured if nobody said what to do.

    `refold` needs nothing more: no checkpoint has the new digest, so all of the history is folded anew.
    """
    if settings.on_change == "stop":
        raise Misconfigured(
            f"models.{tenure.model}: learner, schema, seed or a library changed since window {tenure.seq}, so the "
            "same history would give another state; set on_change = 'refold' to fold it anew, or 'continue' to go "
            "on from the state that was learned"
        )
    return settings.on_change == "continue"


def _carried_over(stores: Stores, tenure: Tenure, fold: Fold) -> int:
    """Take the newest state that verifies, whatever its digest; without one the history is folded anew."""
    for checkpoint in stores.checkpoints.newest(tenure.model, through=tenure.effects_seq):
        fold.carry_over(checkpoint.state)
        return checkpoint.seq
    return 0


def _prove(stores: Stores, window: Window, report: FoldReport, digest: str) -> None:
    """Compare with what was learned, once per recovery: a lost base or an altered log must not go unnoticed."""
    stored = stores.log.metrics(window.header.model, after=report.seq - 1)[0]
    if window.header.fold_digest == digest and stored["probe_hash"] != report.probe_hash:
        raise Corrupt(
            f"{window.header.model}: window {report.seq} folds to another state than was learned; a checkpoint that "
            "later folds start from may be lost: set on_change = 'refold' to fold the history anew"
        )
