"""From the spool to the topic `predictions`: a thread that waits for each delivery before it goes on."""

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from stream_app.errors import Outage
from stream_app.ports import Deliver, Observer, Outgoing
from stream_app.serving.spool import Spool

#: Lines of one delivery.
MOST_LINES: Final = 2_000
#: A moment to let lines gather, so that calm traffic does not make a delivery of each.
_GATHER_S: Final = 0.02
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0

_log = logging.getLogger(__name__)


def line(prediction_id: str, made: Mapping[str, Any]) -> bytes:
    """Return a prediction as it waits: its id, which becomes the key, a space, and the message."""
    return prediction_id.encode() + b" " + orjson.dumps(made)


class Courier:
    """Keeps predictions and brings them to Kafka, at least once each; the store drops repeats."""

    def __init__(self, spool: Spool, deliver: Deliver, *, topic: str, observe: Observer) -> None:
        self._spool = spool
        self._deliver = deliver
        self._topic = topic
        self._observe = observe
        self._awake = threading.Event()
        self._stop = threading.Event()
        self._is_full = False
        self._away: str | None = None
        self._thread = threading.Thread(target=self._run, name="prediction-publisher", daemon=True)

    def start(self) -> None:
        """Begin with what earlier processes left."""
        self._thread.start()

    def record(self, lines: Sequence[bytes]) -> None:
        """Keep predictions before they are answered; when there is no room they are only counted."""
        self._is_full = not self._spool.append(lines)
        if self._is_full:
            self._observe("predictions_unrecorded", amount=len(lines))
        self._awake.set()

    def unwell(self) -> str | None:
        """Return what is wrong in words, None if nothing is."""
        if self._is_full:
            return "no room to keep predictions: they are answered, but nobody will be able to label them"
        return None if self._away is None else f"{self._spool.waiting_bytes} bytes of predictions wait: {self._away}"

    def close(self, timeout_s: float) -> None:
        """Give what waits a last moment; what stays is on disk, and sent at the next start."""
        self._stop.set()
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            self._awake.wait()
            self._stop.wait(_GATHER_S)
            self._awake.clear()
            try:
                self._send_all()
                pause_s = _FIRST_PAUSE_S
            except Outage as outage:
                self._note_away(str(outage))
                self._awake.set()
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if self._away is None:
            with contextlib.suppress(Outage):
                self._send_all()  # what came in while the last of it was on its way

    def _send_all(self) -> None:
        while (batch := self._spool.read(MOST_LINES)) is not None:
            self._deliver([self._message(one) for one in batch.lines])
            self._spool.advance(batch)
            self._observe("predictions_published", amount=len(batch.lines))
            self._away = None
        self._observe("prediction_spool_bytes", amount=self._spool.waiting_bytes)

    def _note_away(self, why: str) -> None:
        if self._away is None:
            _log.warning("predictions cannot be published now and wait on disk", extra={"why": why})
        self._away = why
        self._observe("prediction_spool_bytes", amount=self._spool.waiting_bytes)

    def _message(self, waiting: bytes) -> Outgoing:
        prediction_id, _, value = waiting.partition(b" ")
        return Outgoing(topic=self._topic, key=prediction_id, value=value)
