"""`stream-app config show` and `stream-app config check`."""

import orjson
import typer

from stream_app import configuration
from stream_app.cli.options import AsJson, ConfigFile, Overrides, load, pairs
from stream_app.cli.output import note, print_json
from stream_app.exits import MISCONFIGURED

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show the settings in force, or check them.")


@app.command(epilog="Example: stream-app config show --set kafka.group_id=x")
def show(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Print every setting in force, secrets redacted, and who set it where that is not the default."""
    if as_json:
        print_json(configuration.redacted(load(config, overrides)))
        return
    for key, value, origin in configuration.explained(config, pairs(overrides)):
        source = f"  # {origin}" if origin else ""
        # TOML has no null: settings take the word instead
        shown = '"none"' if value is None else orjson.dumps(value).decode()
        typer.echo(f"{key} = {shown}{source}")


@app.command(epilog="Example: stream-app config check --config stream_app.toml --json")
def check(config: ConfigFile = None, overrides: Overrides = None, *, as_json: AsJson = False) -> None:
    """Read the settings, the data files they name, and build what they ask for; leaves with 78 after any mistake.

    A warning is no mistake: what it names is ignored, and may not be meant for us.
    """
    # River takes a second to import, for which `config show` need not wait
    from stream_app.checking import problems  # noqa: PLC0415

    draft = configuration.draft(config, pairs(overrides))
    mistakes = [*draft.mistakes, *problems(draft.settings, draft.is_sound)]
    if as_json:
        print_json({"ok": not mistakes, "mistakes": mistakes, "warnings": draft.warnings})
    for warning in draft.warnings:
        note(f"warning: {warning}")
    for mistake in mistakes:
        note(mistake)
    if mistakes:
        raise typer.Exit(MISCONFIGURED)
    note(f"The settings are complete; models: {', '.join(draft.settings.models) or 'none yet'}.")
