"""What nobody asks for any more: artifacts that a crash left before they were registered, and logs of old retrains."""

import logging
import threading
from pathlib import Path
from typing import Final

from stream_app.errors import StreamAppError
from stream_app.ports import Clock, Stores

_LOG = logging.getLogger(__name__)
#: Seconds between two sweeps.
EVERY_S: Final = 3_600.0
#: What is younger stays: it may be on its way to its row. The way from bytes to row takes seconds.
YOUNG_S: Final = 86_400.0
#: Newest jobs, of all models together, whose logs stay however old they are.
KEEP_LOGS: Final = 100


class Sweeper:
    """Sweeps now and then; several trainers may, each its own logs."""

    def __init__(self, stores: Stores, *, logs: Path, clock: Clock) -> None:
        """`logs` is the folder of the jobs' log files, `<id>.log`."""
        self._stores = stores
        self._logs = logs
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Sweep until `stop` is set; what is out of reach is swept another time."""
        while not stop.is_set():
            try:
                self.sweep()
            except (StreamAppError, OSError) as error:
                _LOG.warning("swept not everything: %s", error)
            stop.wait(EVERY_S)

    def sweep(self) -> None:
        """Sweep once; raises Outage, Corrupt for a folder of artifacts that leads elsewhere, OSError."""
        before = self._clock() - YOUNG_S
        self._sweep_logs(before)
        for facts in self._stores.registry.models():
            model = str(facts["name"])
            known = self._stores.registry.artifact_paths(model)
            removed = self._stores.artifacts.remove_orphans(model, known=known, before=before)
            if removed:
                _LOG.info("%s: %d artifacts removed that no version refers to", model, removed)

    def _sweep_logs(self, before: float) -> None:
        kept = {f"{job.id}.log" for job in self._stores.jobs.history(limit=KEEP_LOGS)}
        for file in self._logs.glob("*.log"):
            if file.name not in kept and file.stat().st_mtime < before:
                file.unlink(missing_ok=True)
