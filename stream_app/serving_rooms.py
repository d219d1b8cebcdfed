"""The composition root of the server: what its routes work with, out of the rooms of all processes."""

from collections.abc import Mapping
from functools import partial

from stream_app.bootstrap import Rooms
from stream_app.core.schema import Schema
from stream_app.kafka import topics
from stream_app.kafka.producer import Producer
from stream_app.serving.doors import Guard, Keyring
from stream_app.serving.feedback import FeedbackDesk
from stream_app.serving.forms import Reader
from stream_app.serving.health import Health
from stream_app.serving.limits import Buckets
from stream_app.serving.predicting import Predictor
from stream_app.serving.publishing import Courier
from stream_app.serving.retrain_status import RetrainStatus
from stream_app.serving.retraining import Post, Retrains
from stream_app.serving.server import own_names
from stream_app.serving.spool import Spool
from stream_app.serving.tools import Tools
from stream_app.subscriber import ModelSubscriber
from stream_app.worker.opening import schema_of


def open_spool(rooms: Rooms) -> Spool:
    """Return what keeps predictions on their way to Kafka; takes over what processes that ended have left."""
    return Spool(rooms.root / "spool", most_bytes=rooms.settings.serve.spool_bytes)


def courier(rooms: Rooms, spool: Spool, deliver: Producer) -> Courier:
    """Return what brings predictions from the spool to Kafka, not yet started."""
    return Courier(spool, deliver, topic=rooms.settings.kafka.topics.predictions, observe=rooms.observe)


def serving_tools(
    rooms: Rooms, subscriber: ModelSubscriber, courier: Courier, *, deliver: Producer, health: Health
) -> Tools:
    """Return what the routes of the HTTP API work with."""
    serve, clock = rooms.settings.serve, rooms.clock
    schemas = {name: schema_of(model) for name, model in rooms.models.items()}
    reader = Reader(schemas, default=serve.default_model, most_records=serve.max_records)
    predictor = Predictor(
        reader,
        subscriber,
        record=courier.record,
        teach=rooms.predictions.take_feedback,
        clock=clock,
        observe=rooms.observe,
    )
    return Tools(
        models=rooms.models,
        schemas=schemas,
        stores=rooms.stores,
        predictions=rooms.predictions,
        predictor=predictor,
        feedback=FeedbackDesk(rooms.predictions, reader, rooms.rules, most_items=serve.max_records, clock=clock),
        reader=reader,
        retrains=_retrains(rooms, schemas, deliver),
        retrain_status=RetrainStatus(rooms.stores, rooms.models, clock=clock),
        served=subscriber.current,
        guard=_guard(rooms),
        audit=rooms.audit,
        deliver=deliver,
        health=health,
        max_records=serve.max_records,
        clock=clock,
        observe=rooms.observe,
    )


def _retrains(rooms: Rooms, schemas: Mapping[str, Schema], deliver: Producer) -> Retrains:
    post = Post(
        send=deliver.send,
        incarnation=partial(topics.incarnation, rooms.admin),
        topic=rooms.settings.kafka.topics.ground_truth,
    )
    return Retrains(
        rooms.stores,
        schemas,
        post,
        folder=rooms.settings.serve.training_files,
        find=rooms.predictions.prediction,
        clock=rooms.clock,
    )


def _guard(rooms: Rooms) -> Guard:
    serve = rooms.settings.serve
    buckets = Buckets(rate_per_s=serve.rate_per_s, burst=serve.burst)
    return Guard(Keyring(rooms.api_keys, clock=rooms.clock), buckets, hosts=own_names(serve.host))
