"""What the label join needs from time to time: labels that settle, feedback that waited too long, old predictions.

Any worker may do it, several may at once: each step is a transaction that finds what is left to do.
"""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from stream_app.core.joining import Opinion
from stream_app.kafka.dead_letters import Grave, dead_letter
from stream_app.messages import Feedback
from stream_app.ports import Clock, Deliver, Observer, Outgoing
from stream_app.serving_ports import PredictionStore
from stream_app.values import Partition, Run

#: Seconds between two looks at what settles.
KEEP_EVERY_S: Final = 1.0
#: Seconds between two looks at what expires or is too old.
CLEAR_EVERY_S: Final = 10.0
#: Rows of one transaction, and most transactions of one look: other writers must get their turn.
ROWS: Final = 1_000
TURNS: Final = 100
REASON: Final = "no_prediction"


@dataclass(slots=True, kw_only=True)
class LabelKeeper:
    """Settles, expires and deletes."""

    store: PredictionStore
    deliver: Deliver
    grave: Grave
    #: the topic of feedback
    topic: str
    clock: Clock
    observe: Observer
    _clear_at: float = 0.0

    def keep(self) -> None:
        """Do what is due; blocks."""
        for _ in range(TURNS):
            if self.store.settle(limit=ROWS) < ROWS:
                break
        now = self.clock()
        if now >= self._clear_at:
            self._clear_at = now + CLEAR_EVERY_S
            self._expire(now)
            self._sweep()

    def _expire(self, now: float) -> None:
        for _ in range(TURNS):
            expired = self.store.expired(limit=ROWS)
            if not expired:
                return
            self.deliver([self._letter(id_, opinion, now) for id_, opinion in expired])
            # only now: a crash before it delivers them once more
            self.store.forget([id_ for id_, _ in expired])

    def _sweep(self) -> None:
        for _ in range(TURNS):
            if self.store.sweep(limit=ROWS) < ROWS:
                return

    def _letter(self, id_: int, opinion: Opinion, now: float) -> Outgoing:
        """Return the dead letter of feedback as it was understood; its bytes are gone by now.

        It stands at partition -1, at the number of its row: a replay carries the feedback's own id.
        """
        self.observe("events_dead_lettered", topic=self.topic, reason=REASON)
        run = Run(
            partition=Partition(incarnation="", topic=self.topic, number=-1),
            offsets=[id_],
            keys=[opinion.prediction_id.encode()],
            values=[_message(opinion)],
            headers=[()],
            timestamps_ms=[round(opinion.given_at * 1000)],
        )
        error = f"no prediction {opinion.prediction_id!r} came while this feedback waited"
        return dead_letter(self.grave, run, 0, index=None, reason=REASON, error=error, now=now)


def _message(opinion: Opinion) -> bytes:
    fields: dict[str, Any] = {name: getattr(opinion, name) for name in Feedback.model_fields}
    return orjson.dumps(Feedback.model_validate(fields).model_dump(mode="json", exclude_none=True))
