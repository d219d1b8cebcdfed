"""The last check of a candidate: its stored bytes, loaded by a process that knows nothing but what a subscriber does.

What works in the process that fitted a model proves little: there the modules are imported, the caches are warm
and the objects are the very same. Run as a module this is that other process.
"""

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from stream_app.errors import Corrupt, StreamAppError
from stream_app.storage.artifacts import ArtifactReader
from stream_app.storage.packing import unpack
from stream_app.storage.signing import Verifier
from stream_app.values import StoredArtifact

_MODULE: Final = "stream_app.trainer.smoke"
#: Longest account of a failure that is repeated.
_TAIL: Final = 2_000


def load_in_fresh_process(
    place: str, public_key: str, artifact: StoredArtifact, *, trusted: Sequence[str] = ()
) -> None:
    """Return once a new process has fetched, verified and unpacked the artifact and predicted the probe records.

    Its answers must be finite and those of the fitted model. `place` is the artifact store, `public_key` in PEM,
    `trusted` as for `unpack`. Raises Corrupt, with what the process said, otherwise.
    """
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", _MODULE],
        input=pickle.dumps((place, public_key, artifact, trusted)),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip()[-_TAIL:]
        raise Corrupt(f"the stored artifact does not work in a fresh process (exit {done.returncode}): {said}")


def check(place: str, public_key: str, artifact: StoredArtifact, trusted: Sequence[str]) -> None:
    """Fetch, verify, unpack and predict; raises Corrupt or Outage."""
    unpack(ArtifactReader(place, Verifier.from_pem(public_key)).get(artifact), trusted).check()


def main() -> int:
    """Check the artifact named on standard input; a failure is told on standard output."""
    try:
        check(*pickle.load(sys.stdin.buffer))
    except StreamAppError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
