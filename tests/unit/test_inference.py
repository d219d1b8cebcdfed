"""What a data file says about a model, and the starter file that is written from it."""

import gzip
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_app import starter
from stream_app.datafiles import chunks, read
from stream_app.errors import Conflict, Misconfigured
from stream_app.inference import Column, Inferred, infer, resolve
from stream_app.model_settings import FeatureSettings, ModelSettings
from stream_app.settings import Settings
from stream_app.values import Task

ROWS = 30


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write columns as a file in the format that the name asks for."""

    def write(name: str = "data.parquet", **columns: list[Any]) -> Path:
        path, frame = tmp_path / name, pd.DataFrame(columns)
        if ".csv" in name:
            frame.to_csv(path, index=False)
        elif ".jsonl" in name:
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
        return path

    return write


Table = Callable[..., Path]


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.jsonl", "d.jsonl.gz", "d.ndjson", "d.parquet"])
def test_every_format_says_the_same(name: str, table: Table, tmp_path: Path) -> None:
    source = table(name.replace("ndjson", "jsonl"), n=[1.5, None, 3.0], c=["a", "b", "a"], y=["no", "yes", "no"])
    path = source.rename(tmp_path / name)

    found = infer(path, "y")

    assert (found.task, found.classes) == (Task.BINARY, ("no", "yes"))
    assert found.features == {
        "n": FeatureSettings(type="number", required=False),
        "c": FeatureSettings(type="category"),
    }


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        ([0, 1], Task.BINARY, (0, 1)),
        ([2, 1], Task.BINARY, (1, 2)),
        ([True, False], Task.BINARY, (False, True)),
        (["yes", "no"], Task.BINARY, ("no", "yes")),
        ([1.0, 0.0, None], Task.BINARY, (0, 1)),
        (["a", "b", "c"], Task.MULTICLASS, ("a", "b", "c")),
        ([3, 1, 2], Task.MULTICLASS, (1, 2, 3)),
        (list(range(20)), Task.MULTICLASS, tuple(range(20))),
        (list(range(21)), Task.REGRESSION, ()),
        ([0.5, 1.5], Task.REGRESSION, ()),
        ([0.5, 1.0, 2.0], Task.REGRESSION, ()),
    ],
)
def test_the_labels_decide_the_task(labels: list[Any], task: Task, classes: tuple[Any, ...], table: Table) -> None:
    found = infer(table(x=[1] * len(labels), y=labels), "y")

    assert (found.task, found.classes) == (task, classes)
    assert [type(c) for c in found.classes] == [type(c) for c in classes]


@pytest.mark.parametrize("labels", [[i / 7 for i in range(300)], list(range(300)), [1e9 + i for i in range(25)]])
def test_numbers_that_differ_in_every_row_are_what_a_regression_predicts(labels: list[Any], table: Table) -> None:
    assert infer(table(x=[1] * len(labels), y=labels), "y").task is Task.REGRESSION


def test_a_small_sample_may_have_most_of_its_classes_once(table: Table) -> None:
    assert len(infer(table(x=[1] * 60, y=[f"c{i % 50}" for i in range(60)]), "y").classes) == 50
    assert len(infer(table(x=[1] * 12, y=[f"c{i}" for i in range(12)]), "y").classes) == 12


def test_a_task_that_is_given_overrules_the_labels(table: Table) -> None:
    assert infer(table(x=[1, 1], y=[0, 1]), "y", Task.REGRESSION).classes == ()


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ([1, 1], None, "at least two classes"),
        ([1, 2, 3], Task.BINARY, "two classes for a binary task, got 3"),
        ([0.5, 1.5], Task.BINARY, "got fractions"),
        (["a", "b"], Task.REGRESSION, "expected numbers"),
        ([True, False], Task.REGRESSION, "expected numbers"),
        ([str(i) for i in range(1001)], None, "at most 1000 classes"),
        ([f"n{i}" for i in range(300)], None, "come again, got 300 different ones in 300 rows: they name the row"),
        ([f"n{i % 290}" for i in range(300)], None, "got 290 different ones in 300 rows"),
        (list(range(300)), Task.MULTICLASS, "got 300 different ones in 300 rows"),
        (["2026-01-01", "2026-01-02"] * 15, None, "dates such as '2026-01-01' cannot be a target"),
        (["2026-01-01", "2026-01-02"] * 15, Task.REGRESSION, "dates such as '2026-01-01' cannot be a target"),
        ([pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02")], None, "dates and nested values cannot be a target"),
        ([[1], [2]], None, "dates and nested values cannot be a target"),
        (["x" * 257, "y"] * 15, None, "text longer than 256 characters cannot be a target"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: list[Any], task: Task | None, message: str, table: Table) -> None:
    with pytest.raises(Misconfigured, match=message):
        infer(table(x=[1] * len(labels), y=labels), "y", task)


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        ([f"id-{i}" for i in range(ROWS)], "left out: differs in every row, so it names the row"),
        (["x" * 257] * ROWS, "left out: text longer than 256 characters"),
        ([1e16] * ROWS, "left out: numbers beyond 1e+15 are not accepted"),
        ([float("inf")] * ROWS, "left out: numbers beyond 1e+15 are not accepted"),
        ([pd.Timestamp("2026-01-01")] * ROWS, "left out: neither numbers nor categories"),
        (["2026-01-01", "2026-01-02"] * 15, "left out: dates"),
        (["01/02/2026", None] * 15, "left out: dates"),
        (["1.2.2026 14:05", "12.11.2026 9:30"] * 15, "left out: dates"),
        (["2026-01-01T00:00:00Z", "2026-01-01 10:11:12.123456+02:00"] * 15, "left out: dates"),
        (["3-Jan-2026", "Feb 14, 2026"] * 15, "left out: dates"),
        ([{"a": 1}] * ROWS, "left out: neither numbers nor categories"),
        ([None] * ROWS, "left out: no row has a value"),
    ],
)
def test_what_is_no_feature_is_left_out_and_says_why(values: list[Any], remark: str, table: Table) -> None:
    path = table(x=[1.5] * ROWS, odd=values, y=[0, 1] * (ROWS // 2))

    assert infer(path, "y").columns[1] == Column(name="odd", feature=None, remark=remark)


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ([1, 2] * 15, FeatureSettings(type="number")),
        ([1.5, None] * 15, FeatureSettings(type="number", required=False)),
        (["a", "b"] * 15, FeatureSettings(type="category")),
        (["a", None] * 15, FeatureSettings(type="category", required=False)),
        ([True, False] * 15, FeatureSettings(type="category")),
        (["2026-01-01", "unknown"] * 15, FeatureSettings(type="category")),
        (["1.10.24", "1.9.3"] * 15, FeatureSettings(type="category")),
        (["may", "june"] * 15, FeatureSettings(type="category")),
        (["12:30", "2026"] * 15, FeatureSettings(type="category")),
        (["555-123-4567", "1-2-3"] * 15, FeatureSettings(type="category")),
    ],
)
def test_the_values_decide_the_type(values: list[Any], feature: FeatureSettings, table: Table) -> None:
    assert infer(table(x=values, y=[0, 1] * 15), "y").features == {"x": feature}


def test_digits_with_leading_zeros_are_codes(tmp_path: Path) -> None:
    """Of these numbers 1 and 01 would be one, and a CSV could never say which."""
    path = tmp_path / "d.csv"
    path.write_text("zip,plain,half,gaps,y\n00001,1,00.5,01,01\n12345,0,1.5,,02\n00001,10,2,03,01\n")

    found = infer(path, "y")

    assert found.classes == ("01", "02")
    assert found.features == {
        "zip": FeatureSettings(type="category"),
        "plain": FeatureSettings(type="number"),
        "half": FeatureSettings(type="number"),
        "gaps": FeatureSettings(type="category", required=False),
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("x,x,y", "different names, but these come twice: x"),
        (",x,y", "a name for each column, but number 1 has none"),
        ("x, ,y", "a name for each column, but number 2 has none"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_columns_that_cannot_be_told_apart_are_refused(header: str, message: str, suffix: str, tmp_path: Path) -> None:
    path, content = tmp_path / f"d{suffix}", f"{header}\n1,2,3\n".encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)

    with pytest.raises(Misconfigured, match=message):
        infer(path, "y")


@pytest.mark.parametrize(("mark", "shown"), [(";", "';'"), ("\t", r"'\\t'"), ("|", r"'\|'")])
def test_another_mark_between_columns_than_a_comma_is_told(mark: str, shown: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x;z;y\n1,5;2;a\n2;3,1;b\n".replace(";", mark))

    with pytest.raises(Misconfigured, match=f"expected commas between the columns, .* with {shown} in it"):
        infer(path, "y")


def test_without_any_feature_each_column_says_why(table: Table) -> None:
    path = table(ids=[f"id-{i}" for i in range(ROWS)], none=[None] * ROWS, y=[0, 1] * (ROWS // 2))

    with pytest.raises(Misconfigured) as caught:
        infer(path, "y")

    assert "ids was left out: differs in every row" in str(caught.value)
    assert "none was left out: no row has a value" in str(caught.value)


def test_blank_cells_of_a_csv_are_missing_and_the_word_none_is_not(tmp_path: Path) -> None:
    """Telco's TotalCharges has blanks, many files have a category None."""
    path = tmp_path / "d.csv"
    path.write_text("charges,kind,y\n1.5,None,0\n ,None,1\n2.5,a,0\n")

    assert infer(path, "y").features == {
        "charges": FeatureSettings(type="number", required=False),
        "kind": FeatureSettings(type="category"),
    }


def test_real_data() -> None:
    found = infer(Path(__file__).parents[2] / "stream_app" / "data" / "electricity.csv.gz", "class")

    assert (found.task, found.classes) == (Task.BINARY, (0, 1))
    assert list(found.features) == ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
    assert set(found.features.values()) == {FeatureSettings(type="number")}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.txt", b"", "unknown format; expected a name that ends in one of .csv"),
        ("d.csv", b"", "no valid csv file"),
        ("d.csv", b"x,y\n", "no rows in it"),
        ("d.csv", b"x,y\n1,2,3,4\n", "no column 'z'"),
        ("d.csv.gz", b"no gzip", "cannot be read"),
        ("d.csv.gz", gzip.compress(b"x,y\n" * 99)[:-9], "no valid csv"),
        ("d.jsonl", b'{"x": 1}\n{"x":', "line 2"),
        ("d.jsonl", b"[1]", "line 1: expected a JSON object"),
        ("d.parquet", b"PAR1", "no valid parquet file"),
    ],
)
def test_files_that_cannot_be_read_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(Misconfigured, match=message) as caught:
        infer(tmp_path / name, "z")

    assert name in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"d\.csv: cannot be read: No such file"):
        read(tmp_path / "d.csv", most_rows=1)


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.jsonl", "d.parquet"])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_chunks_hold_every_row_in_order(name: str, rows: int, table: Table) -> None:
    found = list(chunks(table(name, x=list(range(20))), rows=rows))

    assert [x for chunk in found for x in chunk.frame["x"]] == list(range(20))
    assert max(len(chunk.frame) for chunk in found) == min(rows, 20)
    assert [chunk.share for chunk in found] == sorted(chunk.share for chunk in found)


def test_text_columns_of_a_csv_stay_text(table: Table) -> None:
    """A zip code is no number, whatever its chunk holds."""
    path = table("d.csv", zip=["01", "02"])

    assert next(chunks(path, texts=["zip"])).frame["zip"].tolist() == ["01", "02"]


class TestResolve:
    def test_features_and_classes_come_from_the_data(self, table: Table) -> None:
        model = ModelSettings(task=Task.BINARY, target="y", data=table(x=[1, 2], y=["a", "b"]))

        assert resolve(model) == model.model_copy(
            update={"features": {"x": FeatureSettings(type="number")}, "classes": ("a", "b")}
        )

    def test_what_the_settings_give_stays(self, table: Table) -> None:
        features = {"other": FeatureSettings(low=0)}
        model = ModelSettings(
            task=Task.BINARY, target="y", data=table(x=[1, 2], y=["a", "b"]), features=features, classes=("b", "a")
        )

        assert resolve(model) == model

    def test_nothing_is_read_when_nothing_is_missing(self) -> None:
        model = ModelSettings(
            task=Task.REGRESSION, target="y", data=Path("missing.csv"), features={"x": FeatureSettings()}
        )

        assert resolve(model) == model

    @pytest.mark.parametrize(("features", "missing"), [({}, "features"), ({"x": FeatureSettings()}, "classes")])
    def test_without_data_it_says_what_is_missing(self, features: dict[str, FeatureSettings], missing: str) -> None:
        with pytest.raises(Misconfigured, match=f"^{missing}: expected them to be set, or data to name a file"):
            resolve(ModelSettings(task=Task.BINARY, target="y", features=features))


class TestStarter:
    def test_it_is_loaded_as_what_was_inferred(self, table: Table) -> None:
        path = table(**{"a b": [1.5, None] * 15, "id": [f"{i}-" for i in range(30)], "y": ["n", "y"] * 15})
        found = infer(path, "y")

        loaded = Settings.model_validate(tomllib.loads(starter.text("my-model", found)))

        model = loaded.models["my-model"]
        assert (model.task, model.target, model.classes, model.features) == (
            Task.BINARY,
            "y",
            ("n", "y"),
            found.features,
        )

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.dictionaries(st.text(), st.sampled_from(["number", "category", None]), max_size=5), st.text())
    def test_no_name_of_a_column_breaks_it(self, columns: dict[str, Any], label: str) -> None:
        found = Inferred(
            task=Task.BINARY,
            target="the target",
            classes=(label, label + "x"),
            columns=tuple(
                Column(name=name, feature=FeatureSettings(type=kind) if kind else None, remark=f"seen {name}")
                for name, kind in columns.items()
            ),
        )

        model = tomllib.loads(starter.text("m", found))["models"]["m"]

        assert model["classes"] == [label, label + "x"]
        assert model["features"] == {name: {"type": kind} for name, kind in columns.items() if kind}

    @pytest.mark.parametrize(
        ("file", "name"),
        [("electricity.csv.gz", "electricity"), ("My Data (1).parquet", "my-data-1"), ("ß.csv", "model")],
    )
    def test_a_model_is_named_after_its_file(self, file: str, name: str) -> None:
        assert starter.model_name(Path(file)) == name

    def test_a_name_that_no_model_may_have_is_refused(self) -> None:
        with pytest.raises(Misconfigured, match=r"model name '\.\./m'"):
            starter.text("../m", Inferred(task=Task.REGRESSION, target="y", classes=(), columns=()))

    def test_a_file_is_replaced_only_when_asked(self, tmp_path: Path) -> None:
        path = tmp_path / "s.toml"
        starter.write(path, "one", replace=False)

        with pytest.raises(Conflict, match="--force"):
            starter.write(path, "two", replace=False)
        assert path.read_text() == "one"

        starter.write(path, "three", replace=True)
        assert path.read_text() == "three"


def test_a_json_document_that_is_no_json_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([{"x": 1}], indent=2))

    with pytest.raises(Misconfigured, match="line 1"):
        infer(tmp_path / "d.json", "x")
