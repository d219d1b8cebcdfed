"""A worker in a process of its own that is killed at a crash point, over a topic that all its successors share."""

import asyncio
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stream_app import crashpoints
from stream_app.ports import Outgoing
from stream_app.settings import Settings
from tests.contract.proofs import feed, steady
from tests.contract.working import PLACE, bench, records

#: Records of the topic, of which every 10th is poison and every 10th another's repeat.
SIZE: Final = 400
POISONED: Final = frozenset(range(7, SIZE, 10))
REPEATED: Final = frozenset(range(13, SIZE, 10))


def topic() -> Sequence[Mapping[str, Any] | bytes]:
    """Return the records of the topic by offset."""
    fresh: list[Any] = list(records(SIZE))
    for at in POISONED:
        fresh[at] = {**fresh[at], "a": "?"} if at % 20 < 10 else b"?"
    for at in REPEATED:
        fresh[at] = fresh[at - 9]
    return fresh


def worker_settings(root: Path, **model: Any) -> Settings:  # noqa: ANN401 - any key of a model's section
    """Return settings of a worker that does everything often: files, checkpoints, publications."""
    window = {"max_rows": 25, "inline_bytes": 0, "checkpoint_windows": 2}
    return steady(root, **{"window": window, "publish": {"every_s": None, "every_records": 40}, **model})


async def work(settings: Settings, *, through: int = SIZE) -> None:
    """Read the topic on from where the log stands, up to an offset, and stop in good order."""
    letters = settings.storage.root / "letters"

    def deliver(messages: Sequence[Outgoing]) -> None:
        with letters.open("a") as file:
            file.writelines(f"{json.dumps(_offset(message))}\n" for message in messages)

    with bench(settings, deliver=deliver) as made:
        at = (await made.handler.assigned([PLACE]))[PLACE]
        await feed(made, topic()[at:through], offset=at, run=20)
        await made.handler.drain()


def _offset(message: Outgoing) -> int:
    return int(dict(message.headers)["__connect.errors.offset"])


def _die(point: str, passes: int, settings: Settings) -> None:
    # the variable was read when the process started, before anybody knew the plan
    crashpoints._name, crashpoints._count = point, str(passes)
    asyncio.run(work(settings))


def killed_at(point: str, passes: int, settings: Settings) -> int | None:
    """Let a worker in another process run into the crash point; return its exit code, 0 if it never came there."""
    context = multiprocessing.get_context("forkserver")  # imports once for all
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_die, args=(point, passes, settings))
    process.start()
    process.join(60)
    return process.exitcode
