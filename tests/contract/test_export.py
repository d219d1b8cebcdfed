"""The log for other engines: exactly the rows, whatever came and went meanwhile."""

import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from log_house import MANY, House, make_rows, make_window

from stream_app.errors import Conflict, Misconfigured, NotFound
from stream_app.storage.export import export


@pytest.fixture
def filled(house: House) -> House:
    """Return a house whose contenders came and went, with files, small and header-only windows."""
    tenure = house.own()
    outputs = [{}, {"3": np.ones(5)}, {}, {"4": np.full((5, 3), 0.5)}]
    for seq, (count, extra) in enumerate(zip([MANY, 5, 0, 5], outputs, strict=True), 1):
        rows = replace(make_rows(count, first=seq * MANY), outputs=extra) if count else None
        house.log.commit(make_window(tenure, seq, rows))
    return house


def expected(house: House) -> pd.DataFrame:
    return house.log.table("m").to_pandas().sort_values(["seq", "pos"], ignore_index=True)


def assert_same(found: pd.DataFrame, house: House) -> None:
    found = found.sort_values(["seq", "pos"], ignore_index=True)
    wanted = expected(house)
    assert list(found.columns) == list(wanted.columns)
    for name in ("seq", "pos", "event_id", "topic", "feature_x", "label", "out_3"):
        assert found[name].astype(object).where(found[name].notna(), None).tolist() == (
            wanted[name].astype(object).where(wanted[name].notna(), None).tolist()
        )


def test_a_folder_of_parquet_files(filled: House, tmp_path: Path) -> None:
    target = tmp_path / "a" / "plain"
    assert export(filled.log, "m", target, "parquet") == MANY + 10
    assert_same(pd.read_parquet(target), filled)
    with duckdb.connect() as connection:
        table = connection.read_parquet(f"{target}/*.parquet").to_arrow_table()
    assert_same(table.to_pandas(), filled)
    assert [path.name for path in target.parent.iterdir()] == ["plain"]


def test_a_delta_table(filled: House, tmp_path: Path) -> None:
    assert export(filled.log, "m", tmp_path / "delta", "delta") == MANY + 10
    assert_same(DeltaTable(str(tmp_path / "delta")).to_pandas(), filled)


def test_delta_without_the_extra_says_what_to_install(
    filled: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(Misconfigured, match="extra 'delta'"):
        export(filled.log, "m", tmp_path / "delta", "delta")
    assert not (tmp_path / "delta").exists()


def test_an_existing_folder_is_left_alone(filled: House, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(Conflict, match="exists already"):
        export(filled.log, "m", tmp_path / "there", "parquet")
    assert list((tmp_path / "there").iterdir()) == []


def test_an_empty_log_is_an_empty_table(house: House, tmp_path: Path) -> None:
    house.own()
    names = house.log.table("m").column_names
    for format_ in ("parquet", "delta"):
        assert export(house.log, "m", tmp_path / format_, format_) == 0
    assert list(pd.read_parquet(tmp_path / "parquet").columns) == names
    assert [field.name for field in DeltaTable(str(tmp_path / "delta")).schema().fields] == names


def test_an_unknown_model_is_not_found(house: House, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'zebra'"):
        export(house.log, "zebra", tmp_path / "x", "parquet")
