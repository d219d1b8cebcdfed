"""What everybody in the worker works with."""

from concurrent.futures import Executor
from dataclasses import dataclass

from stream_app.ports import Clock, Observer, Stores


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Storage, threads to block in, the time, and who hears of it."""

    stores: Stores
    threads: Executor
    clock: Clock
    observe: Observer
