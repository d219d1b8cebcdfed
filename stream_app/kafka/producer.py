"""Handing messages to Kafka: in order, acknowledged by all replicas, or an error."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from stream_app.errors import Fenced, Outage
from stream_app.kafka import client
from stream_app.ports import Outgoing
from stream_app.settings import KafkaSettings

#: What librdkafka calls with the fate of one message.
Report: TypeAlias = Callable[[KafkaError | None, confluent_kafka.Message], None]

_FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - librdkafka's own codes are public by their documentation
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)


class Producer:
    """Sends messages in order and returns once all are acknowledged; usable from several threads.

    After a failure nothing behind the failed message is sent: a caller that sends the rest later would
    otherwise let a high-water mark pass the message that is missing.
    """

    def __init__(self, settings: KafkaSettings, *, timeout_s: float | None = None) -> None:
        """Connect when the first message is sent. `timeout_s` bounds a call; default: the request timeout."""
        self._settings = settings
        self._timeout_s = timeout_s or settings.request_timeout_s
        self._lock = threading.Lock()
        self._reason = ""
        # built here, so that a wrong option is found at start and not at the first dead letter
        self._producer = self._connect()

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        """Send in order; raises Outage, with topic and reason, if one was not acknowledged in time."""
        self.send(messages)

    def send(self, messages: Sequence[Outgoing]) -> Mapping[tuple[str, int], int]:
        """Do the same, and return the offset behind the last message by (topic, partition)."""
        with self._lock:
            try:
                return _deliver(self._producer, messages, self._timeout_s)
            except Outage as outage:
                # what is still queued would follow a gap, and after one this producer is unusable, on purpose
                self._producer.purge()
                reason, self._producer = self._reason, self._connect()
                raise Outage(f"{outage}{reason}") from outage

    def close(self) -> None:
        """Drop what was never acknowledged; a call that returned has left nothing."""
        self._producer.purge()
        self._producer.flush(0)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _connect(self) -> confluent_kafka.Producer:
        # no timeout of a single message, which would let the next one go out without it: the call has one
        self._reason = ""
        return client.producer(
            self._settings, delivery_timeout_ms=0, enable_gapless_guarantee=True, error_cb=self._note_reason
        )

    def _note_reason(self, error: KafkaError) -> None:
        self._reason = f" ({error.str()})"


class TransactionalProducer:
    """Sends each batch in a transaction of its own: readers of committed records see all of it or nothing.

    One producer per transactional id can be alive: starting one fences the older at the broker.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str, *, timeout_s: float | None = None) -> None:
        """Fence an older producer of that id and end its open transaction; raises Outage."""
        self._timeout_s = timeout_s or settings.request_timeout_s
        patience_ms = int(max(self._timeout_s, settings.request_timeout_s) * 1000)  # librdkafka wants it so
        self._producer = client.producer(
            settings,
            transactional_id=transactional_id,
            transaction_timeout_ms=patience_ms,
        )
        with _translated(transactional_id):
            self._producer.init_transactions(self._timeout_s)

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        """Send and commit; raises Fenced once a younger producer exists, Outage after an aborted transaction."""
        with _translated("a transaction"):
            self._producer.begin_transaction()
        try:
            for message in messages:
                _enqueue(self._producer, message, self._timeout_s)
            # the commit waits for every delivery and fails with the first that failed; asking for reports as well
            # makes confluent-kafka call them while the error that fenced us is being raised
            with _translated("a transaction"):
                self._producer.commit_transaction(self._timeout_s)
        except Outage:
            self._abort()
            raise

    def close(self) -> None:
        """Drop what is open."""
        self._producer.purge()
        # a fenced producer repeats its last error at whatever it is asked; there is nothing left to lose
        with contextlib.suppress(KafkaException):
            self._producer.flush(0)

    def _abort(self) -> None:
        # the caller learns of the first error; one that hits the abort too changes nothing for it, because
        # the broker aborts by itself after the transaction's timeout or at the next init
        self._producer.purge()
        with contextlib.suppress(KafkaException):
            self._producer.abort_transaction(self._timeout_s)


def _deliver(
    producer: confluent_kafka.Producer, messages: Sequence[Outgoing], timeout_s: float
) -> Mapping[tuple[str, int], int]:
    failures: list[KafkaError] = []
    ends: dict[tuple[str, int], int] = {}

    def on_delivery(error: KafkaError | None, sent: confluent_kafka.Message) -> None:
        if error is not None:
            failures.append(error)
        else:
            place = cast("tuple[str, int]", (sent.topic(), sent.partition()))  # known once it was delivered
            ends[place] = cast("int", sent.offset()) + 1

    for message in messages:
        if failures:
            break
        _enqueue(producer, message, timeout_s, on_delivery)
    unsent = producer.flush(timeout_s)
    topics = ", ".join(sorted({message.topic for message in messages}))
    if failures:
        raise _translate(failures[0], topics)
    if unsent:
        raise Outage(f"{unsent} messages for {topics} were not acknowledged within {timeout_s:g} s")
    return ends


def _enqueue(
    producer: confluent_kafka.Producer, message: Outgoing, timeout_s: float, on_delivery: Report | None = None
) -> None:
    options: dict[str, Any] = {} if message.partition is None else {"partition": message.partition}
    options |= {"headers": list(message.headers), "on_delivery": on_delivery}
    with _translated(message.topic):
        try:
            producer.produce(message.topic, value=message.value, key=message.key, **options)
        except BufferError:  # the local queue is full: let what is in it go out first
            producer.flush(timeout_s)
            producer.produce(message.topic, value=message.value, key=message.key, **options)
    producer.poll(0)


@contextlib.contextmanager
def _translated(about: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise _translate(error.args[0], about) from error


def _translate(error: KafkaError, about: str) -> Outage | Fenced:
    if error.code() in _FENCED:
        return Fenced(f"another producer took over from this one: {error.str()}")
    return Outage(f"{about}: {error.str()}")
