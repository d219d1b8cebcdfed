"""The program `stream-app`: finding the command, and turning errors into exit codes."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from stream_app import __version__
from stream_app.cli.commands import COMMANDS
from stream_app.errors import StreamAppError
from stream_app.exits import exit_code

_root = typer.Typer(name="stream-app", add_completion=False, no_args_is_help=True)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@_root.callback(epilog="Example: stream-app init --from data.csv --target label")
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """Continuous learning on Kafka."""


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the command that the arguments name and leave with its exit code."""
    try:
        program(arguments).main(args=list(arguments), prog_name="stream-app")
    except StreamAppError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(exit_code(error))
    sys.exit(0)


def program(arguments: Sequence[str]) -> TyperGroup:
    """Return the root command; of its commands only the one that the arguments name is loaded."""
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    root = get_group(_root)
    for name, command in COMMANDS.items():
        loaded = get_command(command.load()) if name == named else TyperCommand(name, help=command.summary)
        root.add_command(loaded, name)
    return root
