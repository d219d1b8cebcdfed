"""The examples: settings hold, data fits, pages tell of commands that exist, and the demo runs them."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.core import TyperGroup

from stream_app import configuration
from stream_app.bootstrap import Rooms
from stream_app.checking import problems
from stream_app.cli.commands import COMMANDS
from stream_app.cli.entry import program
from stream_app.core.schema import Schema
from stream_app.demo import examples
from stream_app.errors import InvalidRecord, WrongArgument
from stream_app.feeding import BESIDE
from stream_app.values import Task
from stream_app.worker.opening import schema_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
NAMES = ["electricity", "housing", "intents", "iris", "liver", "plans"]
PAGES = [FOLDER / "README.md", *(FOLDER / name / "README.md" for name in NAMES)]


def test_these_are_the_examples() -> None:
    assert examples.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_settings_and_data_fit_each_other(name: str) -> None:
    settings = configuration.load(FOLDER / name / "stream_app.toml", {})
    assert problems(settings) == []
    model = Rooms(settings).model(name)
    schema = schema_of(model)

    rows = examples.read(examples.find(name).data, model)
    features = schema.features(rows)
    labels = schema.encode_labels([row[model.target] for row in rows])

    assert len(features) == len(labels) == len(rows)
    assert model.target not in (*schema.numeric, *schema.categorical)
    assert not {*schema.numeric, *schema.categorical} & set(BESIDE)
    # a label that comes first must not be all that comes for long: a stream is no sorted file
    if model.task is not Task.REGRESSION:
        assert len(np.unique(labels[: len(labels) // 5])) == len(np.unique(labels))


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_of_a_demo_are_those_of_the_example_and_a_place(name: str, tmp_path: Path) -> None:
    own = tomllib.loads((FOLDER / name / "stream_app.toml").read_text())
    made = tomllib.loads(examples.find(name).settings_text(tmp_path))

    assert made["storage"]["root"] == str(tmp_path)
    assert Path(made["models"][name].pop("data")).samefile(FOLDER / name / own["models"][name].pop("data"))
    assert made["models"] == own["models"]


def test_an_unknown_example_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        WrongArgument, match=r"'iriss': expected one of: electricity, housing, intents, iris, liver, plans$"
    ):
        examples.find("iriss")


def test_without_a_checkout_there_is_the_packaged_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examples, "CHECKOUT", tmp_path / "examples")

    assert examples.find("electricity").data.is_file()
    with pytest.raises(WrongArgument, match="expected one of: electricity; the others are not in the package"):
        examples.find("iris")


@pytest.mark.parametrize("name", NAMES)
def test_a_poisoned_stream_has_nothing_good_in_it(name: str) -> None:
    """Else the numbers of the demo would not add up."""
    model = Rooms(configuration.load(FOLDER / name / "stream_app.toml", {})).model(name)
    schema = schema_of(model)
    first = examples.read(examples.find(name).data, model)[0]

    no_json, *parsed, nothing = examples.poison(model, first)

    assert nothing is None
    with pytest.raises(json.JSONDecodeError):
        json.loads((no_json or b"").decode("latin-1"))
    for value in parsed:
        record = json.loads(value or b"")
        features, label = record.get("features", record), record.get("label", record.get(model.target))
        with pytest.raises(InvalidRecord):
            take(schema, features, label)


def take(schema: Schema, features: Mapping[str, Any], label: object) -> None:
    """Take one record in as a worker would."""
    schema.features([features])
    schema.encode_labels([label])


def test_the_data_of_iris_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(FOLDER / "iris" / "prepare.py"))

    assert (FOLDER / "iris" / "data" / "raw" / "iris.csv").read_text() == script["table"]()


def test_the_numbers_of_intents_are_what_its_script_makes_of_the_texts() -> None:
    script = runpy.run_path(str(FOLDER / "intents" / "words.py"))

    pd.testing.assert_frame_equal(pd.read_csv(FOLDER / "intents" / "data" / "words.csv.gz"), script["table"]())


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of each `stream-app` command in a page's blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.search(r"\.venv/bin/stream-app (.*)", line) for line in lines]
    return [shlex.split(match[1].partition(" | ")[0].removesuffix(" &")) for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.name))
def test_a_page_tells_of_commands_that_exist(page: Path) -> None:
    told = commands(page)

    assert told
    for arguments in told:
        parse(program(arguments), arguments)


def parse(group: TyperGroup, arguments: list[str]) -> None:
    """Take a command line apart as the program would; a wrong one raises a usage error."""
    name, command, rest = group.resolve_command(group.make_context("stream-app", list(arguments)), list(arguments))
    assert command is not None
    if isinstance(command, TyperGroup):
        parse(command, rest)
    else:
        command.make_context(name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.parent.name))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_map_from_other_systems_leads_to_what_is_here() -> None:
    text = (ROOT / "docs" / "coming-from.md").read_text()

    assert {
        path for path in re.findall(r"`((?:stream_app|examples)/[\w/.]+)`", text) if not (ROOT / path).exists()
    } == set()
    assert set(re.findall(r"`stream-app ([a-z]+)", text)) <= COMMANDS.keys()


@pytest.mark.timeout(600)
def test_the_demo_of_a_small_set_adds_up(tmp_path: Path) -> None:
    """Two of them at once, since most of their time is waiting."""
    started = {name: start_demo(name, tmp_path / name) for name in ("iris", "liver")}
    for name, process in started.items():
        output, errors = process.communicate()
        assert process.returncode == 0, f"{name}: {errors}"
        shown = json.loads(output)
        accounted = shown["records_learned"] + shown["records_dead_lettered"] + shown["duplicates_skipped"]
        assert shown["records_sent"] == accounted
        assert shown["records_learned"] == {"iris": 150, "liver": 583}[name]
        assert shown["records_dead_lettered"] > 0
        assert shown["duplicates_skipped"] > 0
        assert shown["probe_hash_live"] == shown["probe_hash_replayed"]
        assert shown["log_verified"] is True
        assert shown["kills"] == 1
        assert shown["retrains_decided"] >= 1
        assert f"the example {name}" in (tmp_path / name / "demo-report.html").read_text()


def start_demo(name: str, folder: Path) -> subprocess.Popen[str]:
    """Start the demo of an example in a folder of its own."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "stream_app", "demo", "--example", name, "--fast", "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
