"""The worker's front door: each topic's runs go to the handler that understands them."""

import asyncio
from collections.abc import Mapping, Sequence

from stream_app.model_settings import ModelSettings
from stream_app.serving_ports import PredictionStore
from stream_app.settings import TopicSettings
from stream_app.values import Run
from stream_app.worker.handler import Policy, Tools, WorkerHandler
from stream_app.worker.joining import JoinHandler, Side
from stream_app.worker.keeping import LabelKeeper
from stream_app.worker.opening import schema_of
from stream_app.worker.statements import Form, Predictions, read_feedback
from stream_app.worker.tickets import Done

Places = Sequence[tuple[str, int]]


class Reception:
    """Implements `stream.agents.RunHandler` over the handlers of records, and of predictions and feedback."""

    def __init__(self, records: WorkerHandler, labels: JoinHandler, keeper: LabelKeeper) -> None:
        self.records = records
        self.labels = labels
        self._keeper = keeper

    def _split(self, places: Places) -> tuple[Places, Places]:
        ours = [place for place in places if place[0] in self.labels.topics]
        return [place for place in places if place not in ours], ours

    async def assigned(self, partitions: Places) -> Mapping[tuple[str, int], int]:
        """Take the partitions over, recover what lives there, and return where to read on."""
        records, labels = self._split(partitions)
        return {**await self.records.assigned(records), **await self.labels.assigned(labels)}

    async def revoked(self, partitions: Places) -> None:
        """Let the partitions go."""
        records, labels = self._split(partitions)
        await self.labels.revoked(labels)
        await self.records.revoked(records)

    async def take(self, run: Run, done: Done) -> None:
        """Take a run in; `done` is called once everything in it is durable."""
        handler = self.labels if run.partition.topic in self.labels.topics else self.records
        await handler.take(run, done)

    async def drain(self) -> None:
        """Make everything that was taken in durable."""
        await self.labels.drain()
        await self.records.drain()

    def healthy(self) -> str | None:
        """Return what is wrong; failures end the process by themselves, so nothing lingers."""
        return None

    async def tick(self) -> None:
        """Do what is due by time; raises what went wrong in the background."""
        await self.records.tick()

    async def tidy(self) -> None:
        """Do the housekeeping of the models in our hands, beside their work."""
        await self.records.tidy()

    async def keep(self) -> None:
        """Let labels settle and feedback expire, and delete what is too old, beside the rest."""
        await asyncio.to_thread(self._keeper.keep)


def open_reception(
    tools: Tools, policy: Policy, store: PredictionStore, *, models: Mapping[str, ModelSettings], topics: TopicSettings
) -> Reception:
    """Return the front door for these models, with features and classes filled in."""
    forms = {name: Form(schema=schema_of(model), max_skew_s=model.max_skew_s) for name, model in models.items()}
    sides = {
        topics.predictions: Side(
            read=Predictions(forms), store=lambda good, moved: store.take_predictions(good, moved=moved)
        ),
        topics.feedback: Side(read=read_feedback, store=lambda good, moved: store.take_feedback(good, moved=moved)),
    }
    keeper = LabelKeeper(
        store=store,
        deliver=tools.deliver,
        grave=policy.grave,
        topic=topics.feedback,
        clock=tools.clock,
        observe=tools.observe,
    )
    return Reception(WorkerHandler(tools, policy), JoinHandler(tools, policy, sides, models=list(models)), keeper)
