"""One full retrain, from the order to the request for promotion; it runs in a process of its own.

Every step can be repeated: a retrain that died anywhere is started again under the same job id, reads the same
rows, and what it had registered is recognised by that id.
"""

from collections.abc import Mapping
from typing import Any

from stream_app.core.fold import ONLINE
from stream_app.core.probes import probe_set
from stream_app.core.training import Untrainable
from stream_app.crashpoints import crashpoint
from stream_app.errors import Conflict, Fenced
from stream_app.storage.artifacts import artifact_path
from stream_app.storage.packing import Description, pack_batch
from stream_app.trainer.contest import ONLINE_NAME, Contest, Fitted, Outcome
from stream_app.trainer.order import LEASE_S, Order, Result, Say, Tools
from stream_app.trainer.smoke import load_in_fresh_process
from stream_app.values import JobStatus, StoredArtifact, Version, VersionStatus


class Retraining:
    """Carries one order out."""

    def __init__(self, order: Order, tools: Tools, say: Say) -> None:
        self._order = order
        self._tools = tools
        self._say = say
        self._model = order.job.model
        self._schema = order.trainee.schema
        self._registered = self._registered_before()
        # what an attempt read that died is read again: its numbers would not fit other rows
        self._through = max((v.trained_through for v in self._registered), default=order.through_seq)

    def run(self) -> Result:
        """Carry the order out.

        1. if this job has registered its version already, only the promotion is left to ask for
        2. hold the contest; 3. register who lost, without bytes
        4. the winner: pack, store, load the stored bytes in a fresh process, register
        5. ask for its promotion; the model's owner decides
        Raises Fenced, having registered nothing, once the job is another trainer's.
        """
        for version in self._registered:  # 1
            if version.status is not VersionStatus.REJECTED:
                return self._resumed(version)
        try:
            outcome = Contest(self._model, self._order.trainee, self._tools, self._say).hold(self._through)  # 2
        except Untrainable as refusal:
            return Result(status=JobStatus.REJECTED, reason=str(refusal))
        self._check_lease()
        return self._register(outcome)

    def _register(self, outcome: Outcome) -> Result:
        promote, numbers = outcome.verdict.promote, self._numbers(outcome)
        winner = None
        for fitted in outcome.fitted:  # 3
            if fitted.candidate.name == promote:
                winner = fitted
            else:
                self._register_loser(fitted, outcome.parent, numbers)
        if winner is not None:
            version = self._register_winner(winner, outcome.parent, numbers)  # 4
            crashpoint("gate_pass")
            return self._asked(version, outcome.parent, numbers)  # 5
        if promote == ONLINE_NAME:
            return self._asked(ONLINE, outcome.parent, numbers)
        return Result(status=JobStatus.REJECTED, reason=outcome.verdict.reason, verdict=numbers)

    def _registered_before(self) -> list[Version]:
        versions = self._tools.stores.registry.versions(self._model)
        return [v for v in versions if v.metrics.get("job") == self._order.job.id]

    def _resumed(self, version: Version) -> Result:
        self._say(f"version {version.number} was registered by an earlier attempt")
        if version.status is VersionStatus.GATED:
            return self._asked(version.number, version.parent, version.metrics)
        reason = str(version.metrics["reason"])
        return Result(status=JobStatus.SUCCEEDED, reason=reason, version=version.number, verdict=dict(version.metrics))

    def _check_lease(self) -> None:
        job, holder = self._order.job, self._order.holder
        if not self._tools.stores.jobs.renew(job.id, holder=holder, now=self._tools.clock(), lease_s=LEASE_S):
            raise Fenced(f"job {job.id} is another trainer's now: nothing was registered")

    def _numbers(self, outcome: Outcome) -> dict[str, Any]:
        verdict, split = outcome.verdict, outcome.split
        return {
            "job": self._order.job.id,
            "reason": verdict.reason,
            "metric": verdict.metric,
            "scores": {name: dict(scores) for name, scores in verdict.scores.items()},
            "training_rows": len(split.training),
            "holdout_rows": len(split.holdout),
            "compared_rows": verdict.rows,
            "holdout_from": [int(split.holdout.seqs[0]), int(split.holdout.positions[0])],
        }

    def _register_loser(self, loser: Fitted, parent: int, numbers: Mapping[str, Any]) -> None:
        if all(v.metrics["candidate"] != loser.candidate.name for v in self._registered):
            version = self._version(loser, parent, numbers, VersionStatus.REJECTED, None)
            self._tools.stores.registry.register(version)

    def _register_winner(self, winner: Fitted, parent: int, numbers: Mapping[str, Any]) -> int:
        registry = self._tools.stores.registry
        # known beforehand, since it is part of the signed bytes; single flight keeps others from taking it
        number = 1 + max((v.number for v in registry.versions(self._model)), default=0)
        artifact = self._store(winner, number)
        self._say("loading the stored bytes in a fresh process")
        tools = self._tools
        load_in_fresh_process(tools.artifact_place, tools.public_key, artifact, trusted=tools.trusted)
        registered = registry.register(self._version(winner, parent, numbers, VersionStatus.GATED, artifact))
        if registered.number != number:
            registry.set_status(self._model, registered.number, VersionStatus.REJECTED)
            raise Conflict(f"version {number} was packed, but {registered.number} registered: another one came between")
        return number

    def _store(self, winner: Fitted, number: int) -> StoredArtifact:
        retrain = self._order.trainee.settings.retrain
        description = Description(
            model=self._model,
            version=str(number),
            algorithm=winner.candidate.algorithm,
            schema_json=self._schema.to_json(),
            shape=self._schema.shape,
            trained_through_seq=self._through,
            settings={"candidate": winner.candidate.name, "retrain": retrain.model_dump(mode="json")},
        )
        content = pack_batch(description, winner.estimator, probe_set(self._schema))
        return self._tools.stores.artifacts.put(artifact_path(self._model, str(number), content), content)

    def _version(
        self,
        fitted: Fitted,
        parent: int,
        numbers: Mapping[str, Any],
        status: VersionStatus,
        artifact: StoredArtifact | None,
    ) -> Version:
        row_count, rows_digest = self._tools.stores.log.rows_digest(self._model, through=self._through)
        name = fitted.candidate.name
        own = {"candidate": name, "fit_seconds": round(fitted.seconds, 3), **numbers["scores"].get(name, {})}
        return Version(
            model=self._model,
            number=0,
            kind="batch",
            algorithm=fitted.candidate.algorithm,
            status=status,
            artifact=artifact,
            metrics={**own, **numbers},
            trained_through=self._through,
            row_count=row_count,
            rows_digest=rows_digest,
            parent=parent,
            trigger=self._order.job.trigger,
            created_at=self._tools.clock(),
        )

    def _asked(self, number: int, parent: int, numbers: Mapping[str, Any]) -> Result:
        """Ask the owner to let the version serve; a request of an earlier attempt that still waits will do."""
        control, body = self._tools.stores.control, {"version": number, "parent": parent}
        waiting = [i for i, kind, asked in control.waiting(self._model) if kind == "promote" and asked == body]
        request = waiting[0] if waiting else control.ask(self._model, "promote", body, by=self._order.holder)
        return Result(
            status=JobStatus.SUCCEEDED,
            reason=str(numbers["reason"]),
            version=None if number == ONLINE else number,
            verdict={**numbers, "request": request},
        )
