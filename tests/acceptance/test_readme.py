"""What the README tells people to type works, in order, in a fresh clone."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Clone what is committed; whatever it started is stopped afterwards."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    libraries = ROOT / ".cache" / "kafka" / "libs"
    if libraries.exists():  # the broker's, which Maven would fetch again
        (folder / ".cache" / "kafka").mkdir(parents=True)
        (folder / ".cache" / "kafka" / "libs").symlink_to(libraries)
    yield folder
    subprocess.run([folder / "scripts" / "kafka", "stop"], check=True)


def blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.kafka
@pytest.mark.timeout(900)  # it installs everything first
@pytest.mark.skipif(shutil.which("java") is None, reason="scripts/kafka needs Java")
def test_every_block_of_the_readme_runs(clone: Path) -> None:
    script = "\n".join(
        ["set -euo pipefail", *(f"echo '== block {n}' >&2\n{block}" for n, block in enumerate(blocks()))]
    )

    code, output, errors = run(script, clone, deadline_s=840)

    assert code == 0, errors[-4000:]
    assert '"ok": true' in output


def run(script: str, folder: Path, *, deadline_s: float) -> tuple[int, str, str]:
    """Run the script in a shell of its own; nothing that it left in the background outlives it."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("STREAM_APP_", "KAFKA_", "PYTHON"))
    }
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        # any free port: another worker may run on this machine
        env={**clean, "STREAM_APP_HTTP__WORKER_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, errors = shell.communicate(timeout=deadline_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    return shell.returncode, output, errors
