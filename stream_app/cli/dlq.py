"""`stream-app dlq list`, `show` and `replay`."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_app.cli.options import AsJson, ConfigFile, Overrides, load
from stream_app.cli.output import note, print_fields, print_json, print_rows
from stream_app.errors import Misconfigured, WrongArgument
from stream_app.exits import RUNTIME_FAILURE
from stream_app.kafka.graveyard import Graveyard, Heap, Outcome, Selection, replay
from stream_app.kafka.letters import FAILED_AT, REASON, Letter, Place, read_corrections
from stream_app.kafka.producer import Producer
from stream_app.ports import Deliver
from stream_app.settings import KafkaSettings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List dead letters, show one, or send them back.")

#: Categories of Unicode that a terminal obeys, hides or cannot show.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@app.command("list", epilog="Example: stream-app dlq list --topic ground-truth")
def list_(
    topic: Annotated[str | None, typer.Option(help="Only those of this topic; default: of all that are read.")] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    each: Annotated[bool, typer.Option("--each", help="List every letter and its place, for `show`.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count the dead letters by topic, model and reason, with the newest of each."""
    graveyard = Graveyard(load(config, overrides).kafka)
    letters = graveyard.letters(graveyard.topics(topic))
    if each:
        rows = [_placed(letter, graveyard.model(letter)) for letter in letters]
        count = len(rows)
    else:
        heaps = graveyard.heaps(letters)
        rows, count = [_described(heap) for heap in heaps], sum(heap.letters for heap in heaps)
    if as_json:
        print_json(rows)
        return
    # keys are a producer's own words: no control character may come through
    print_rows([{name: printable(str(v)) for name, v in row.items()} for row in rows])
    note(f"{count} letters." if count else "No dead letters.")


@app.command(epilog="Example: stream-app dlq show ground-truth.dlq 0 17")
def show(
    topic: Annotated[str, typer.Argument(help="Dead-letter topic, or the topic that it belongs to.")],
    partition: Annotated[int, typer.Argument(min=0, help="Partition of the dead-letter topic.")],
    offset: Annotated[int, typer.Argument(min=0, help="Offset in the dead-letter topic.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a dead letter: its headers, and its value as text that is safe on a terminal."""
    letter = Graveyard(load(config, overrides).kafka).letter(topic, partition, offset)
    shown = _shown(letter)
    if as_json:
        print_json(shown)
        return
    print_fields({"key": shown["key"]} | {name: _indented(value) for name, value in shown["headers"].items()})
    typer.echo(f"\n{shown['value']}")


@app.command("replay", epilog="Example: stream-app dlq replay --topic ground-truth --file corrected.jsonl")
def replay_(  # noqa: PLR0913 - each is an option of the command
    *,
    topic: Annotated[str | None, typer.Option(help="Only letters of this topic; default: of all.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only letters with this reason, as `list` shows it.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only letters of this dead-letter partition.")] = None,
    offset: Annotated[int | None, typer.Option(min=0, help="Only the letter at this dead-letter offset.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Letters at most; default: all of them.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help='Corrected values as JSON lines {"partition", "offset", "value"}: only these are sent. They are '
            "letters of ground-truth unless --topic names another."
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the topic that they came from; sent twice, a record is still learned once.

    Ends with 1 when a letter had to be refused; the others are sent.
    """
    settings = load(config, overrides).kafka
    graveyard = Graveyard(settings)
    chosen = graveyard.topics(settings.topics.ground_truth if topic is None and file is not None else topic)
    selection = Selection(
        reason=reason,
        partition=partition,
        offset=offset,
        corrections=None if file is None else _corrections(file, chosen[0]),
    )
    with _delivery(settings, dry_run=dry_run) as deliver:
        outcomes = list(replay(graveyard.letters(chosen), selection, graveyard.sources, deliver, limit=limit))
    _report(outcomes, dry_run=dry_run, as_json=as_json)


@contextmanager
def _delivery(settings: KafkaSettings, *, dry_run: bool) -> Iterator[Deliver]:
    if dry_run:
        yield lambda _: None
        return
    with Producer(settings) as deliver:
        yield deliver


def _corrections(file: Path, topic: str) -> Mapping[Place, bytes]:
    try:
        with file.open("rb") as lines:
            return read_corrections(lines, topic)
    except OSError as error:
        raise WrongArgument(f"--file {file}: cannot be read: {error.strerror}") from error
    except Misconfigured as error:
        raise WrongArgument(f"--file {file}, {error}") from error


def _report(outcomes: Sequence[Outcome], *, dry_run: bool, as_json: bool) -> None:
    refused = [outcome for outcome in outcomes if outcome.to is None]
    sent = len(outcomes) - len(refused)
    if as_json:
        counts = {"would_send" if dry_run else "sent": sent, "refused": len(refused)}
        print_json({"dry_run": dry_run, **counts, "letters": list(map(asdict, outcomes))})
    else:
        shown = outcomes if dry_run else refused
        print_rows([_told(outcome) for outcome in shown])
        note(f"{'Would send' if dry_run else 'Sent'} {sent} letters; refused {len(refused)}.")
    if refused:
        raise typer.Exit(RUNTIME_FAILURE)


def _told(outcome: Outcome) -> dict[str, object]:
    return {name: None if value is None else printable(str(value)) for name, value in asdict(outcome).items()}


def _placed(letter: Letter, model: str) -> dict[str, object]:
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "model": model,
        "reason": letter.header(REASON),
        "failed_at": letter.header(FAILED_AT),
    }


def _described(heap: Heap) -> dict[str, object]:
    return {
        "topic": heap.topic,
        "model": heap.model,
        "reason": heap.reason,
        "letters": heap.letters,
        "records": heap.records,
        "newest": heap.newest,
        "newest_partition": heap.newest_partition,
        "newest_offset": heap.newest_offset,
    }


def _shown(letter: Letter) -> dict[str, Any]:
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": _text(letter.key),
        "headers": {printable(name): _text(value) for name, value in letter.headers},
        "value": _text(letter.value),
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else printable(content.decode("utf-8", "backslashreplace"))


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal would obey or hide, but for line breaks."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in _UNSAFE else ascii(c)[1:-1] for c in text)


def _indented(text: str | None) -> str | None:
    """Keep the lines of a long value from looking like headers."""
    return text and text.replace("\n", "\n    ")
