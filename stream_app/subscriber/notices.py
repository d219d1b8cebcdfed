"""What a subscriber tells the world on `learning-events`: best effort, and never in the way of serving."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from stream_app.kafka import client, cloudevents
from stream_app.messages import LearningEvent
from stream_app.ports import Clock
from stream_app.settings import KafkaSettings


class Notices:
    """Sends acknowledgements and refusals without waiting for any of them."""

    def __init__(self, settings: KafkaSettings, *, clock: Clock) -> None:
        """Connects by itself; raises Misconfigured for options that cannot be."""
        self._topic = settings.topics.learning_events
        self._producer = client.producer(settings)
        self._clock = clock

    def send(self, type_: str, model: str, *, seq: int | None, details: Mapping[str, Any]) -> None:
        """Queue an event; it is lost if the broker stays away."""
        value = LearningEvent(model=model, seq=seq, details=dict(details)).model_dump_json().encode()
        headers = cloudevents.headers(event_id=uuid4().hex, type_=type_, time_s=self._clock(), subject=model)
        try:
            self._producer.produce(self._topic, value=value, key=model.encode(), headers=list(headers))
        except BufferError:
            return  # a broker that was away for so long; the status still says what is loaded
        self._producer.poll(0)

    def close(self) -> None:
        """Give what is queued a moment, then drop it."""
        self._producer.flush(1.0)
        self._producer.purge()
