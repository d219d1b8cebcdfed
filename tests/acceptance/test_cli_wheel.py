"""What somebody who installs the wheel gets."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel with what scripts/setup installed, so without the network."""
    pytest.importorskip("hatchling", reason="scripts/setup dev installs it")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_contract_is_inside_as_it_is_committed(wheel: zipfile.ZipFile) -> None:
    inside = {
        name.removeprefix("stream_app/schemas/"): wheel.read(name).decode()
        for name in wheel.namelist()
        if name.startswith("stream_app/schemas/")
    }
    schemas = ROOT / "schemas"

    assert inside == {str(path.relative_to(schemas)): path.read_text() for path in schemas.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["stream_app/data/electricity.csv.gz", "stream_app/py.typed", "stream_app/cli/entry.py"]
)
def test_what_the_program_needs_is_inside(name: str, wheel: zipfile.ZipFile) -> None:
    assert name in wheel.namelist()


def test_nothing_else_is_inside(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {"stream_app", "stream_app-0.1.0.dist-info"}


def test_it_brings_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    info = "stream_app-0.1.0.dist-info"

    assert "stream-app = stream_app.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()
