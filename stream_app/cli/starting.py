"""`stream-app init`."""

from pathlib import Path
from typing import Annotated

import typer

from stream_app import inference, starter
from stream_app.cli.options import AsJson, argument
from stream_app.cli.output import note, print_json
from stream_app.values import Task

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: stream-app init --from electricity.csv.gz --target class")
def init(
    source: Annotated[Path, typer.Option("--from", help="CSV, JSON lines or Parquet file, also with .gz.")],
    target: Annotated[str, typer.Option(help="Column that the model predicts.")],
    task: Annotated[
        Task | None, typer.Option(help="What the model predicts; default: what the values of the target suggest.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the file's.")] = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("stream_app.toml"),
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a starter settings file with the schema that a data file suggests."""
    with argument("--from, --target" if task is None else "--from, --target, --task"):
        inferred = inference.infer(source, target, task)
    model = name or starter.model_name(source)
    with argument("--name"):
        content = starter.text(model, inferred)
    starter.write(output, content, replace=force)
    left_out = {column.name: column.remark for column in inferred.columns if column.feature is None}
    if as_json:
        summary = {"file": str(output), "model": model, "task": inferred.task, "features": len(inferred.features)}
        print_json({**summary, "left_out": left_out})
        return
    count = len(inferred.features)
    note(f"Wrote {output}: model {model}, {inferred.task}, {count} feature{'s' * (count != 1)}.")
    for column, remark in left_out.items():
        note(f"{column} was {remark}.")
