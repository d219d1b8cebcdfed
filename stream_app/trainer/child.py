"""The process of one retrain: `python -m stream_app.trainer.child PARENT_PID REPORT_FD`, started by the runner.

What to do comes pickled on standard input, from the trainer that started it. Reports leave as JSON lines on the
file descriptor given: `{"say": words}` while it works, then one `{"result": …}` or `{"failure": …}`. Whatever
libraries print goes to the job's log file.
"""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, Final

import orjson

from stream_app.errors import Misconfigured
from stream_app.leaving import end_with
from stream_app.trainer.limits import is_lack_of_memory, limit_memory

#: Learning and serving come first: a retrain takes what they leave.
_NICENESS: Final = 10


class Reports:
    """The way back to the trainer."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - it is ours alone: its end tells that we ended
        self._descriptor = descriptor

    def say(self, words: str) -> None:
        """Tell what is being done, also to the log file."""
        print(words, flush=True)  # noqa: T201 - standard output is the job's log
        self._send({"say": words})

    def result(self, result: Mapping[str, Any]) -> None:
        """Tell the verdict."""
        self._send({"result": result})

    def failure(self, error: BaseException) -> None:
        """Tell what went wrong; the traceback stays in the log file."""
        traceback.print_exception(error)
        name = type(error).__name__
        kind = "memory" if is_lack_of_memory(error) else name
        self._send({"failure": {"kind": kind, "reason": str(error) or name}})

    def _send(self, report: Mapping[str, Any]) -> None:
        line = memoryview(orjson.dumps(report, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        while line:
            line = line[os.write(self._descriptor, line) :]


def scheduler_of(backend: str) -> AbstractContextManager[Any]:
    """Return what joblib's backend needs around the fit: for dask a client.

    The client takes its address from DASK_SCHEDULER_ADDRESS, else it starts a cluster on this machine. Raises
    Misconfigured when dask is not installed.
    """
    if backend != "dask":
        return nullcontext()
    try:
        client: AbstractContextManager[Any] = import_module("distributed").Client()
    except ImportError as error:
        raise Misconfigured("retrain.backend: 'dask' expects the package with its extra: stream-app[dask]") from error
    return client


def work(reports: Reports) -> None:
    """Carry the order on standard input out, and report."""
    # both import most of what there is: here, so that the trainer hears of an import that fails
    opening, order = pickle.load(sys.stdin.buffer)
    from stream_app.trainer.retraining import Retraining  # noqa: PLC0415 - see above

    settings = order.trainee.settings.retrain
    if settings.memory_mb is not None:
        limit_memory(settings.memory_mb)
    with scheduler_of(settings.backend):
        result = Retraining(order, opening(), reports.say).run()
    reports.result(
        {
            "status": result.status.value,
            "reason": result.reason,
            "version": result.version,
            "verdict": dict(result.verdict),
        }
    )


def main() -> int:
    """Run; anything that goes wrong is reported, and ends with exit code 1."""
    parent, descriptor = (int(argument) for argument in sys.argv[1:3])
    end_with(parent, signal.SIGKILL)
    os.nice(_NICENESS)
    reports = Reports(descriptor)
    try:
        work(reports)
    except Exception as error:  # noqa: BLE001 - whatever it is, the trainer must hear of it
        reports.failure(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
