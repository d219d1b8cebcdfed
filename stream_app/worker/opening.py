"""Taking a model over: fence the owner before, recover the state, mend what a crash left half done."""

import logging
from dataclasses import dataclass

from stream_app.core.fold import ONLINE, Fold
from stream_app.core.records import TimePolicy
from stream_app.core.schema import Field, Schema
from stream_app.core.windows import ModelIntake, WindowPolicy
from stream_app.crashpoints import crashpoint
from stream_app.errors import Misconfigured
from stream_app.model_settings import ModelSettings
from stream_app.values import Partition, Tenure, Version, VersionStatus
from stream_app.worker.aftermath import Aftermath
from stream_app.worker.hands import Hands
from stream_app.worker.owner import ModelOwner
from stream_app.worker.publishing import Publisher
from stream_app.worker.recovery import Recovered, recover
from stream_app.worker.sealing import Load, Sealer
from stream_app.worker.tickets import Line

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """What is needed to take models over."""

    hands: Hands
    #: by model, with features and classes filled in
    models: dict[str, ModelSettings]
    publisher: Publisher
    load: Load
    #: "host:pid", for people
    owner: str

    def own(self, model: str, partition: Partition, position: int, line: Line) -> ModelOwner:
        """Take the model over and return its owner, recovered; blocks for as long as the recovery takes.

        `position` is the partition's own: a model that is new starts there, since what lies before was dealt with
        when nobody knew the model.
        1. fence: from here on the owner before can write nothing
        2. recover the state from the log; 3. store the effects of the newest window if a crash left them out, and
        keep the state for ever if later folds must start from it
        4. first time: register the online learner and ask for its promotion
        """
        began = self.hands.clock()
        settings = self.models[model]
        schema = schema_of(settings)
        tenure = self._take_over(model, schema, {partition: position})  # 1
        recovered = recover(self.hands.stores, settings, tenure, lambda: self.fresh(model))  # 2
        aftermath = self._aftermath(settings, tenure)
        aftermath.resume(recovered.fold, recovered.checkpoint_seq)
        self._mend(aftermath, tenure, recovered)  # 3
        self._introduce(recovered.fold)  # 4
        self._tell(partition, tenure, recovered, took_s=self.hands.clock() - began)
        return self._owner(settings, tenure, recovered.fold, aftermath, line)

    def fresh(self, model: str) -> Fold:
        """Return the model's fold before its first window."""
        settings = self.models[model]
        return Fold(model, settings, schema_of(settings), midway=lambda: crashpoint("learn_half"))

    def _take_over(self, model: str, schema: Schema, start: dict[Partition, int]) -> Tenure:
        log = self.hands.stores.log
        tenure = log.take_over(model, owner=self.owner, schema_json=schema.to_json(), start=start)
        if tenure.schema_json != schema.to_json():
            raise Misconfigured(
                f"models.{model}: features, classes, task or target differ from those that the model was created "
                "with; a changed schema needs a model of another name"
            )
        return tenure

    def _aftermath(self, settings: ModelSettings, tenure: Tenure) -> Aftermath:
        return Aftermath(
            epoch=tenure.epoch,
            stores=self.hands.stores,
            publisher=self.publisher,
            window=settings.window,
            publish=settings.publish,
            clock=self.hands.clock,
            observe=self.hands.observe,
        )

    @staticmethod
    def _mend(aftermath: Aftermath, tenure: Tenure, recovered: Recovered) -> None:
        if tenure.effects_seq < tenure.seq and recovered.newest is not None:
            window, report = recovered.newest
            aftermath.effects(window, report, recovered.fold)
        if recovered.is_base:
            aftermath.pin(recovered.fold)

    def _introduce(self, fold: Fold) -> None:
        registry, control = self.hands.stores.registry, self.hands.stores.control
        if not registry.versions(fold.model):
            registry.register(_online_version(fold, self.hands.clock()))
        if fold.champion == 0 and not control.waiting(fold.model):
            control.ask(fold.model, "promote", {"version": ONLINE, "parent": 0}, by=self.owner)

    @staticmethod
    def _tell(partition: Partition, tenure: Tenure, recovered: Recovered, *, took_s: float) -> None:
        seq, began = recovered.fold.seq, recovered.checkpoint_seq
        place = f"{partition.topic}/{partition.number}"
        found = {"epoch": tenure.epoch, "checkpoint_seq": began, "windows_folded": seq - began, "seq": seq}
        took = {"learned": recovered.fold.learned, "seconds": round(took_s, 3)}
        _log.info("model recovered", extra={"model": tenure.model, "partition": place, **found, **took})

    def _owner(
        self, settings: ModelSettings, tenure: Tenure, fold: Fold, aftermath: Aftermath, line: Line
    ) -> ModelOwner:
        sealer = Sealer(self.hands, fold.model, epoch=tenure.epoch, max_rows=settings.window.max_rows, load=self.load)
        unloaded = sealer.reload(fold)
        if unloaded is not None:
            self.hands.observe("model_refused", model=fold.model, reason="artifact")
            _log.error(
                "the champion cannot be loaded: its scores stop, and subscribers refuse it as well",
                extra={"model": fold.model, "version": fold.champion, "why": str(unloaded)},
            )
        intake = ModelIntake(
            fold.schema,
            TimePolicy(max_skew_s=settings.max_skew_s, lateness_s=settings.lateness_s),
            _window_policy(settings),
            memory=fold.memory,
            positions=tenure.positions,
            marks=tenure.origin_marks,
            now=self.hands.clock(),
        )
        return ModelOwner(self.hands, fold=fold, intake=intake, sealer=sealer, aftermath=aftermath, line=line)


def schema_of(settings: ModelSettings) -> Schema:
    """Return the schema of a model whose features and classes are filled in."""
    fields = (Field(name=name, **feature.model_dump()) for name, feature in settings.features.items())
    return Schema(
        task=settings.task,
        target=settings.target,
        fields=tuple(fields),
        classes=settings.classes or (),
        extra_features=settings.extra_features,
    )


def _window_policy(settings: ModelSettings) -> WindowPolicy:
    window = settings.window
    return WindowPolicy(
        max_rows=window.max_rows,
        max_age_s=window.max_age_s,
        progress_records=window.progress_records,
        progress_s=window.progress_s,
    )


def _online_version(fold: Fold, now: float) -> Version:
    return Version(
        model=fold.model,
        number=ONLINE,
        kind="online",
        algorithm=fold.online.algorithm,
        status=VersionStatus.GATED,
        artifact=None,
        metrics={},
        trained_through=0,
        row_count=0,
        rows_digest="",
        parent=0,
        trigger="manual",
        created_at=now,
    )
