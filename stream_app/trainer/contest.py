"""The contest of one retrain: rows in, verdict out; nothing is written here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from stream_app.core import gates
from stream_app.core.candidates import Candidate, build_candidates
from stream_app.core.fold import ONLINE
from stream_app.core.gates import Contestant, Role, Verdict
from stream_app.core.preprocessing import Estimator
from stream_app.core.training import LogRows, Split, check_classes, fit, predict, split_by_time, usable
from stream_app.errors import Corrupt, Misconfigured, NotFound, Outage
from stream_app.storage.packing import UnpackedModel, unpack
from stream_app.trainer.order import Say, Tools, Trainee
from stream_app.trainer.reading import aligned, read_rows
from stream_app.values import Floats, Task

#: Name of the online learner in verdicts.
ONLINE_NAME: Final = "online"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A candidate that could be fitted, and what it says about the holdout."""

    candidate: Candidate
    #: preprocessing and model
    estimator: Estimator
    outputs: Floats
    #: of fitting it
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a contest came to."""

    verdict: Verdict
    fitted: tuple[Fitted, ...]
    split: Split
    #: the champion that all were compared with
    parent: int


class Contest:
    """Fits a model's candidates and compares them with who serves and who learns online."""

    def __init__(self, model: str, trainee: Trainee, tools: Tools, say: Say) -> None:
        self._model = model
        self._trainee = trainee
        self._tools = tools
        self._say = say
        self._shape = trainee.schema.shape
        self._settings = trainee.settings.retrain

    def hold(self, through: int) -> Outcome:
        """Return the outcome on the rows with seq <= through; raises Untrainable, and Misconfigured by key."""
        policy = gates.policy_of(self._shape.task, self._trainee.settings.metric, self._settings.min_gain)
        candidates = build_candidates(self._shape, self._settings.candidates, self._trainee.settings.seed)
        split = self._split(through)
        # before the first publication the online learner is about to serve
        parent = self._tools.stores.registry.champion(self._model)[0] or ONLINE
        fitted = self._fit_all(candidates, split)
        self._say("comparing with the champion on the holdout")
        contestants = [*self._defenders(parent, split.holdout, through), *map(_contestant, fitted)]
        verdict = gates.judge(self._shape, policy, split.holdout.labels, contestants)
        return Outcome(verdict=verdict, fitted=tuple(fitted), split=split, parent=parent)

    def _split(self, through: int) -> Split:
        self._say(f"reading the log through window {through}")
        log, newest = self._tools.stores.log, self._settings.window_rows
        rows = usable(read_rows(log, self._model, self._trainee.schema, through=through, newest=newest))
        split = split_by_time(rows, holdout=self._settings.holdout, min_rows=self._settings.min_rows)
        check_classes(split.training, self._shape)
        return split

    def _fit_all(self, candidates: Sequence[Candidate], split: Split) -> list[Fitted]:
        """Fit the candidates; one that cannot be fitted is told and left out, unless none is left."""
        fitted, failures = [], []
        for candidate in candidates:
            self._say(f"fitting {candidate.name} on {len(split.training):,} rows")
            try:
                fitted.append(self._fit(candidate, split))
            except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as error:
                failures.append(f"{candidate.name}: {error}")
                self._say(f"cannot be fitted: {failures[-1]}")
        if not fitted:
            raise Misconfigured(f"retrain.candidates: none can be fitted to these rows: {'; '.join(failures)}")
        return fitted

    def _fit(self, candidate: Candidate, split: Split) -> Fitted:
        began, settings = self._tools.clock(), self._settings
        estimator = fit(
            candidate.estimator, split.training, self._shape, backend=settings.backend, n_jobs=settings.n_jobs
        )
        seconds = self._tools.clock() - began
        outputs = predict(estimator, split.holdout.features, self._shape)
        return Fitted(candidate=candidate, estimator=estimator, outputs=outputs, seconds=seconds)

    def _defenders(self, parent: int, holdout: LogRows, through: int) -> list[Contestant]:
        """Return the champion, and the online learner if that is somebody else."""
        if parent == ONLINE:
            answers = self._online_outputs(holdout, through)
            return [Contestant(name=ONLINE_NAME, role=Role.CHAMPION, outputs=answers)]
        champion = Contestant(
            name=f"version {parent}", role=Role.CHAMPION, outputs=self._batch_outputs(parent, holdout)
        )
        try:
            answers = self._online_outputs(holdout, through)
        except (Corrupt, NotFound) as error:  # it is one more challenger here: the others go on without it
            self._say(f"the online learner cannot be folded again: {error}")
            return [champion]
        return [champion, Contestant(name=ONLINE_NAME, role=Role.ONLINE, outputs=answers)]

    def _online_outputs(self, holdout: LogRows, through: int) -> Floats:
        seqs, positions, outputs = self._tools.online_outputs(
            self._model, after=int(holdout.seqs[0]) - 1, through=through
        )
        return aligned(holdout, seqs, positions, outputs) if len(seqs) else self._silence(holdout)

    def _batch_outputs(self, number: int, holdout: LogRows) -> Floats:
        """Return what a batch version said at the time; where it did not serve yet, what it says now."""
        outputs = holdout.outputs.get(str(number), self._silence(holdout))
        silent = np.isnan(outputs if outputs.ndim == 1 else outputs.sum(axis=1))
        if silent.any():
            try:
                outputs[silent] = self._load(number).predict(holdout.features.take(silent))
            except (Corrupt, NotFound, Outage) as error:
                # the gate counts the missing answers and refuses if they are too many
                self._say(f"version {number} cannot be loaded: {error}")
        return outputs

    def _silence(self, holdout: LogRows) -> Floats:
        columns = (len(self._shape.classes),) if self._shape.task is Task.MULTICLASS else ()
        return np.full((len(holdout), *columns), np.nan)

    def _load(self, number: int) -> UnpackedModel:
        stores = self._tools.stores
        artifact = stores.registry.version(self._model, number).artifact
        if artifact is None:
            raise NotFound("it has no stored artifact")
        return unpack(stores.artifacts.get(artifact), self._tools.trusted)


def _contestant(fitted: Fitted) -> Contestant:
    return Contestant(name=fitted.candidate.name, role=Role.CANDIDATE, outputs=fitted.outputs)
