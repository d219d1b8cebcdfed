"""Whether Kafka and the topics are there, asked with patience, and what to say when they are not."""

from collections.abc import Sequence
from datetime import UTC, datetime

import tenacity
from confluent_kafka import KafkaError

from stream_app.errors import Misconfigured, NotFound, Outage
from stream_app.kafka import client, topics
from stream_app.settings import KafkaSettings


class Contact:
    """Since when Kafka does not answer. Answers on any thread."""

    def __init__(self) -> None:
        self._away_since: float | None = None

    def note(self, *, answered: bool, asked_at: float) -> None:
        """Take in whether Kafka answered what it was asked at that time (seconds since the epoch)."""
        if answered:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = asked_at

    def lost(self) -> str | None:
        """Return since when Kafka is away, None when it answered the last time."""
        since = self._away_since
        if since is None:
            return None
        return f"Kafka is not to be reached since {datetime.fromtimestamp(since, UTC).isoformat(timespec='seconds')}"


def patiently(within_s: float) -> tenacity.Retrying:
    """Return a caller that repeats what ends in an Outage, with growing random pauses."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Outage),
        stop=tenacity.stop_after_delay(within_s),
        wait=tenacity.wait_random_exponential(max=5),
        reraise=True,
    )


def check_topics(settings: KafkaSettings, named: Sequence[str]) -> None:
    """Raise Misconfigured if one does not exist or nobody lets us in, Outage if Kafka is away for too long."""
    complaints: list[KafkaError] = []
    admin = client.admin(settings, error_cb=complaints.append)
    ask = patiently(settings.request_timeout_s)
    for topic in named:
        try:
            ask(topics.partition_count, admin, topic)
        except NotFound as error:
            raise Misconfigured(f"topic {topic} does not exist: create it with `stream-app topics create`") from error
        except Outage as error:
            admin.poll(0)  # hands over what its threads ran into; the error itself only says that time is up
            raise _not_reached(settings, complaints, error) from error


def _not_reached(settings: KafkaSettings, complaints: Sequence[KafkaError], outage: Outage) -> Outage | Misconfigured:
    for complaint in complaints:
        if complaint.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - public, by its documentation
            return Misconfigured(f"Kafka at {settings.bootstrap_servers} does not let us in: {complaint.str()}")
    reason = complaints[-1].str() if complaints else str(outage)
    return Outage(f"Kafka at {settings.bootstrap_servers} is not to be reached: {reason}")
