"""Somebody who asks for predictions all the while: serving must answer throughout (I6)."""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from faults.stage import MODELS
from faults.workload import good
from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.subscriber import ModelSubscriber

#: Seconds between two rounds of questions.
ASK_S: Final = 0.05


@dataclass(slots=True)
class Audience:
    """A subscriber in this process, asked again and again from the first answer of a model on."""

    config: Path
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    #: by model, the versions that answered
    versions: dict[str, set[str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to ask."""
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop asking."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _ask(self) -> None:
        chance = random.Random(0)  # noqa: S311 - a repeatable run, no secret
        rooms = Rooms(configuration.load(self.config, {}))
        rooms.signer  # noqa: B018 - makes the key, if no worker has yet
        with rooms.subscriber(MODELS) as subscriber:
            while not self._over.wait(ASK_S):
                for model in MODELS:
                    if subscriber.current(model) is not None:
                        self._answer(subscriber, model, good(chance))
            self.refused.update({model: status.refused for model, status in subscriber.status().items()})

    def _answer(self, subscriber: ModelSubscriber, model: str, record: dict[str, Any]) -> None:
        record.pop("y")
        try:
            (prediction,) = subscriber.predict(model, [record])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a question without an answer
            self.failures.append(f"{model}: {error!r}")
            return
        self.answers += 1
        self.versions.setdefault(model, set()).add(prediction.version)

    def problems(self) -> list[str]:
        """Return what went wrong."""
        found = [f"I6: no answer: {failure}" for failure in self.failures[:3]]
        found += [f"I6: nothing was ever served of {model}" for model in MODELS if model not in self.versions]
        return found + [f"I6: {n} artifacts of {model} were refused" for model, n in self.refused.items() if n]
