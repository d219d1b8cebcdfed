"""Named places at which a test can kill the process, to prove that a crash there loses nothing.

`STREAM_APP_CRASH=name:n` kills this process with SIGKILL on the n-th pass through the point `name`
(`name` alone means the first pass). Without the variable a crash point is one comparison.
"""

import os
import signal
from collections import Counter
from typing import Final

#: Every crash point there is; the fault suite asserts that each was hit.
POINTS: Final = (
    "buffered",
    "file_written",
    "file_durable",
    "commit_open",
    "committed",
    "learn_half",
    "effects",
    "ckpt_tmp",
    "ckpt_renamed",
    "outbox",
    "sent",
    "pre_ack",
    "recover_started",
    "recover_folded",
    "gate_pass",
)

_plan = os.environ.get("STREAM_APP_CRASH", "")
_name, _, _count = _plan.partition(":")
_passes: Counter[str] = Counter()


def crashpoint(name: str) -> None:
    """Kill this process, as `kill -9` would, if the plan says so; otherwise do nothing."""
    if name != _name:
        return
    _passes[name] += 1
    if _passes[name] == int(_count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
