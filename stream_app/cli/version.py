"""`stream-app version`."""

import platform
from importlib.metadata import version as installed

import typer

from stream_app import __version__
from stream_app.cli.options import AsJson
from stream_app.cli.output import print_fields, print_json

app = typer.Typer(add_completion=False)

#: Packages whose versions shape what is learned or spoken; worth having in every report of a fault.
SHOWN = ("river", "scikit-learn", "numpy", "faust-streaming", "confluent-kafka")


@app.command(epilog="Example: stream-app version --json")
def version(*, as_json: AsJson = False) -> None:
    """Print the version of stream_app and of the libraries that decide what it learns."""
    versions = {"stream-app": __version__, "python": platform.python_version()}
    versions |= {name: installed(name) for name in SHOWN}
    (print_json if as_json else print_fields)(versions)
