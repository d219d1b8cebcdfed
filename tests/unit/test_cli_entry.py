"""From errors to exit codes, and what a command may import."""

import inspect
import subprocess
import sys

import pytest

from stream_app import errors
from stream_app.cli import SERVICES, entry
from stream_app.cli.commands import COMMANDS
from stream_app.cli.output import print_rows
from stream_app.configuration import Mistakes
from stream_app.exits import exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Fenced(), 70),
        (errors.Outage(), 75),
        (errors.Misconfigured(), 78),
        (errors.TooManyBadRecords(), 78),
        (Mistakes(["a.b: expected c"]), 78),
        (errors.WrongArgument(), 2),
        (errors.Corrupt(), 1),
        (errors.NotFound(), 1),
        (errors.Conflict(), 1),
        (errors.InvalidRecord("not_json", "bad"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: errors.StreamAppError, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_is_told_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> None:
        raise errors.Fenced

    monkeypatch.setattr(entry, "program", fail)

    with pytest.raises(SystemExit) as left:
        entry.main([])

    assert left.value.code == 70
    assert capsys.readouterr() == ("", f"error: {errors.Fenced.__doc__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_speaks_json(name: str) -> None:
    app = COMMANDS[name].load()

    assert app.registered_commands
    for one in app.registered_commands:
        assert one.epilog is not None
        assert one.epilog.startswith(f"Example: stream-app {name}")
        assert one.callback is not None
        # services print nothing
        assert name in SERVICES or "as_json" in inspect.signature(one.callback).parameters


@pytest.mark.parametrize("command", ["version", "config"])
def test_a_light_command_imports_nothing_heavy(command: str) -> None:
    """Faust, numba and scikit-learn take seconds together; a shell prompt should not."""
    code = f"import sys; from stream_app.cli.entry import program; program(['{command}']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"faust", "numba", "sklearn", "river", "sqlalchemy"} & set(loaded)


def test_tables_show_cells_as_they_are_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "[/] is no [bold]markup[/bold] here" + " and long" * 30

    print_rows([{"model": "m", "reason": reason, "at": None}, {"model": "n", "reason": "", "at": 7}])

    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "reason", "at"]
    assert reason in first
    assert second.split() == ["n", "7"]
