"""From the log back to the state: the newest checkpoint that verifies, and the windows after it."""

from collections.abc import Callable
from dataclasses import dataclass

from stream_app.core.fold import Fold
from stream_app.crashpoints import crashpoint
from stream_app.errors import Corrupt, Misconfigured
from stream_app.ports import Stores
from stream_app.settings import ModelSettings
from stream_app.values import FoldReport, Tenure, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Where a recovery arrived."""

    fold: Fold
    #: window of the checkpoint it started from, 0 without one
    checkpoint_seq: int
    #: the newest window and its report, if its effects may still have to be stored
    newest: tuple[Window, FoldReport] | None


def recover(stores: Stores, settings: ModelSettings, tenure: Tenure, fresh: Callable[[], Fold]) -> Recovered:
    """Fold the model's log up to its newest window.

    1. the newest checkpoint whose digest and HMAC verify and that has our fold digest; else from the start
    2. the windows after it, in order; the time this takes depends on the checkpoint interval, not on the log
    Raises Misconfigured if the log was folded with other settings and `on_change` is "stop".
    """
    crashpoint("recover_started")
    fold = fresh()
    _check_digest(stores, settings, tenure, fold)
    checkpoint_seq = _from_checkpoint(stores, tenure, fold)  # 1
    newest = None
    for window in stores.log.windows(tenure.model, after=fold.seq, through=tenure.seq):  # 2
        newest = (window, fold.apply(window))
    crashpoint("recover_folded")
    if fold.seq != tenure.seq:
        raise Corrupt(f"{tenure.model}: the log ends at window {tenure.seq}, but only {fold.seq} could be folded")
    return Recovered(fold=fold, checkpoint_seq=checkpoint_seq, newest=newest)


def _from_checkpoint(stores: Stores, tenure: Tenure, fold: Fold) -> int:
    # never newer than the stored effects: a window whose effects are missing must be folded again
    for checkpoint in stores.checkpoints.newest(tenure.model, through=tenure.effects_seq):
        if checkpoint.fold_digest == fold.digest:
            fold.restore(checkpoint.state)
            return checkpoint.seq
    return 0


def _check_digest(stores: Stores, settings: ModelSettings, tenure: Tenure, fold: Fold) -> None:
    """Refuse to go on when the newest window was folded with other settings, unless told what to do.

    `refold` needs nothing more: no checkpoint has the new digest, so all of the history is folded anew.
    """
    if tenure.seq == 0 or settings.on_change == "refold":
        return
    newest = next(iter(stores.log.windows(tenure.model, after=tenure.seq - 1, through=tenure.seq)))
    if newest.header.fold_digest != fold.digest:
        raise Misconfigured(
            f"models.{tenure.model}: learner, schema, seed or a library changed since window {tenure.seq}, so the "
            "same history would give another state; set on_change = 'refold' to fold it anew"
        )
