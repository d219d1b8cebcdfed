"""What becomes of a promotion that was asked for: its model's owner answers, sometimes long after the retrain.

A refusal because another champion came meanwhile says nothing about the candidate: it is judged again, against
the new champion and on the rows that are there by then.
"""

import logging
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

import orjson

from stream_app.core.fold import ONLINE
from stream_app.messages import RETRAIN_REJECTED, LearningEvent
from stream_app.ports import Clock, Stores
from stream_app.values import ControlEntry, Job, JobStatus, VersionStatus

_LOG = logging.getLogger(__name__)
#: A model whose champion changes under each retrain is retrained so many times in a row, then by its triggers.
MOST_IN_A_ROW: Final = 3


class Promotions:
    """Follows up on refused promotions; remembers nothing that is not in the stores."""

    def __init__(self, stores: Stores, *, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock

    def follow_up(self, model: str, history: Sequence[Job]) -> None:
        """Look at how the newest job's promotion was answered; `history` is newest first.

        A refused version is marked as rejected. If its champion was overtaken, a job with the same trigger is
        requested, unless too many in a row ended that way.
        """
        newest = next(iter(history), None)
        refusal = None if newest is None else self._refusal(newest)
        if newest is None or refusal is None:
            return
        champion, _ = self._stores.registry.champion(model)
        if _was_overtaken(refusal, champion) and self._in_a_row(history) < MOST_IN_A_ROW:
            # first: a crash after it finds the new job, and nothing is asked for twice
            self._stores.jobs.request(model, newest.trigger, now=self._clock())
            _LOG.info("%s: judged again, since %s", model, refusal.reason)
        self._reject(newest, refusal)

    def _refusal(self, job: Job) -> ControlEntry | None:
        if job.status is not JobStatus.SUCCEEDED or "request" not in job.verdict:
            return None
        answer = self._stores.control.answer(int(job.verdict["request"]))
        return None if answer is None or answer.accepted else answer

    def _in_a_row(self, history: Sequence[Job]) -> int:
        return sum(1 for _ in takewhile(lambda job: self._refusal(job) is not None, history))

    def _reject(self, job: Job, refusal: ControlEntry) -> None:
        number = int(refusal.body["version"])
        registry = self._stores.registry
        if number == ONLINE or registry.version(job.model, number).status is not VersionStatus.GATED:
            return
        details = {"job": job.id, "version": number, "reason": refusal.reason}
        event = LearningEvent(model=job.model, seq=job.through_seq, details=details)
        value = orjson.dumps(event.model_dump(mode="json"))
        self._stores.outbox.note(job.model, RETRAIN_REJECTED, value, now=self._clock())
        registry.set_status(job.model, number, VersionStatus.REJECTED)


def _was_overtaken(refusal: ControlEntry, champion: int) -> bool:
    """Return whether the version was refused because it had been compared with somebody who serves no more."""
    return refusal.body.get("parent") != champion
