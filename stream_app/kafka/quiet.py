"""Keeps Kafka's clients from filling the log while a broker is away: they complain many times a second."""

import logging
import time
from typing import Final

#: Seconds in which one complaint is heard once.
EVERY_S: Final = 10.0


class Seldom(logging.Filter):
    """Lets the same message through once in a while; the same is what has the same text before its arguments."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        """Remember nothing yet."""
        super().__init__()
        self._every_s = every_s
        self._heard: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is let through."""
        # librdkafka's have one text and bring what it is about as the first argument: FAIL, CONFWARN, …
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        key = (record.levelno, record.msg, about if record.name.endswith("librdkafka") else None)
        now = time.monotonic()
        if now - self._heard.get(key, -self._every_s) < self._every_s:
            return False
        self._heard[key] = now
        return True


def quieten(family: str) -> None:
    """Let all loggers below that name that exist by now speak seldom, and only of what is wrong."""
    seldom = Seldom()
    logging.getLogger(family).setLevel(logging.WARNING)
    for name in list(logging.root.manager.loggerDict):
        if name == family or name.startswith(f"{family}."):
            logging.getLogger(name).addFilter(seldom)
