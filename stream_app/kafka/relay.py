"""The relay: brings what transactions owe from the outbox to Kafka, in order.

A lease picks the one relay, and the transactional id makes sure of it: a relay that lost its lease without
noticing is fenced by the broker, and readers of committed records never see what it had begun.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from stream_app.crashpoints import crashpoint
from stream_app.errors import Fenced, Outage
from stream_app.kafka import cloudevents
from stream_app.kafka.letters import ORIGIN
from stream_app.messages import LABEL_JOINED
from stream_app.ports import Clock, Leases, Observer, Outbox, OutboxMessage, Outgoing

#: The lease, and the transactional id at the broker.
NAME: Final = "stream-app-relay"
#: A relay that is silent for so long is replaced. After a kill -9 subscribers hear nothing new until then; a relay
#: that is replaced although it lives is fenced, which costs a moment and loses nothing.
LEASE_S: Final = 5.0
#: How soon a new message is looked for.
POLL_S: Final = 0.1
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0
_SENT_KEPT_S: Final = 86_400.0
_FORGET_EVERY_S: Final = 3_600.0


class Transactions(Protocol):
    """A producer whose batches are transactions."""

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        """Send and commit; raises Fenced once a younger producer exists, Outage after an aborted transaction."""

    def close(self) -> None:
        """Let go of the broker."""


class Relay:
    """Sends what the outbox owes, while it holds the lease."""

    def __init__(
        self,
        outbox: Outbox,
        leases: Leases,
        connect: Callable[[], Transactions],
        *,
        holder: str,
        clock: Clock,
        observe: Observer,
    ) -> None:
        """`connect` starts a producer of the one transactional id; `holder` is unique to this relay."""
        self._outbox = outbox
        self._leases = leases
        self._connect = connect
        self._holder = holder
        self._clock = clock
        self._observe = observe
        self._forget_at = 0.0
        self._renew_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, whatever is away or fences us meanwhile."""
        while not stop.is_set():
            try:
                if self._holds_lease():
                    self._reign(stop)
                else:
                    stop.wait(LEASE_S / 10)
            except Fenced:
                # Somebody else believes to hold the lease; give it time to renew before we ask again.
                self._observe("relay_fenced")
                self._renew_at = 0.0
                stop.wait(LEASE_S)
            except Outage:
                self._observe("relay_outage")
                stop.wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._give_back()

    def _reign(self, stop: threading.Event) -> None:
        """Send for as long as the lease is ours.

        1. start the producer, which fences an older relay at the broker: it can commit nothing from here on
        2. only then read, and assert every model's current pointer once more: whatever was sent under its key
           meanwhile, the newest record is right again
        3. send what is unsent, in order
        """
        transactions = self._connect()
        try:
            self._send(transactions, self._settled_pointers())
            while not stop.is_set() and self._holds_lease():
                if not self._send_unsent(transactions):
                    self._forget()
                    stop.wait(POLL_S)
            if self._holds_lease():
                self._send_unsent(transactions)  # what is owed since the last look may say why its process ends
        finally:
            transactions.close()

    def _settled_pointers(self) -> list[OutboxMessage]:
        # One that is still unsent comes in its turn, and rights the key as well.
        unsent = {message.id for message in self._outbox.unsent()}
        return [message for message in self._outbox.pointers() if message.id not in unsent]

    def _send_unsent(self, transactions: Transactions) -> bool:
        messages = self._outbox.unsent()
        if not messages:
            return False
        self._send(transactions, messages)
        crashpoint("sent")
        # Only now: a crash before it sends them once more, under the same ids, and readers drop repeats.
        self._outbox.mark_sent([message.id for message in messages], now=self._clock())
        self._observe("relay_messages_sent", amount=len(messages))
        return True

    def _send(self, transactions: Transactions, messages: Sequence[OutboxMessage]) -> None:
        if messages:
            transactions([_outgoing(message) for message in messages])
        self._pause_s = _FIRST_PAUSE_S

    def _forget(self) -> None:
        now = self._clock()
        if now >= self._forget_at:
            self._outbox.forget_sent(before=now - _SENT_KEPT_S)
            self._forget_at = now + _FORGET_EVERY_S

    def _holds_lease(self) -> bool:
        # Each renewal is a synced write: not at every look into the outbox.
        now = self._clock()
        if now < self._renew_at:
            return True
        held = self._leases.acquire(NAME, holder=self._holder, now=now, lease_s=LEASE_S)
        self._renew_at = now + LEASE_S / 4 if held else 0.0
        return held

    def _give_back(self) -> None:
        try:
            self._leases.release(NAME, holder=self._holder)
        except Outage:
            self._observe("relay_outage")  # it runs out by itself


def _outgoing(message: OutboxMessage) -> Outgoing:
    headers = cloudevents.headers(
        event_id=message.event_id, type_=message.type, time_s=message.created_at, subject=message.model
    )
    # the id of a joined label is an origin, see `storage.label_join`: the intake drops what comes once more
    origin = ((ORIGIN, message.event_id.encode()),) if message.type == LABEL_JOINED else ()
    return Outgoing(topic=message.topic, key=message.key, value=message.value, headers=(*headers, *origin))
