"""Collecting rows from a database: what is sent is marked, what is marked was sent, on SQLite and PostgreSQL."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from stream_app.collecting import Collection, Progress, collect
from stream_app.errors import Outage, WrongArgument
from stream_app.model_settings import FeatureSettings, ModelSettings
from stream_app.ports import Outgoing
from stream_app.values import Task

MODEL = ModelSettings(
    task=Task.REGRESSION,
    target="MedHouseValue",
    features={
        "MedInc": FeatureSettings(),
        "HouseAge": FeatureSettings(),
        "Ocean": FeatureSettings(type="category", required=False),
    },
)
TABLE = """CREATE TABLE sales (
    id INTEGER PRIMARY KEY, median_income NUMERIC(8, 4) NOT NULL, "HouseAge" DOUBLE PRECISION,
    actual_price DOUBLE PRECISION, sold_at TIMESTAMP, processed INTEGER NOT NULL DEFAULT 0)"""
ROWS = 7


class Broker:
    """Remembers what was delivered; away after so many deliveries."""

    def __init__(self, deliveries: int = 1_000) -> None:
        self.sizes: list[int] = []
        self.records: list[dict[str, Any]] = []
        self._left = deliveries

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        if self._left == 0:
            raise Outage("the broker is away")
        self._left -= 1
        self.sizes.append(len(messages))
        assert {(m.topic, m.key) for m in messages} == {("ground-truth", b"housing")}
        self.records += [json.loads(m.value or b"") for m in messages]


def _silent(_: Progress) -> None:
    """Nobody watches."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database that is not ours."""
    if request.param == "postgres":
        plain: str = request.getfixturevalue("postgres_url")
        return plain.replace("postgresql+psycopg://", "postgresql://")
    (tmp_path / "sales.db").touch()
    return f"sqlite:///{tmp_path / 'sales.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    """Yield the database with new rows, one of which has no price yet."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(TABLE))
        sales = [{"id": i, "price": None if i == 3 else i / 2} for i in range(1, ROWS + 1)]
        connection.execute(
            text("INSERT INTO sales VALUES (:id, 8.3252, 41.5, :price, '2026-11-01 12:30:00', 0)"), sales
        )
    yield engine
    engine.dispose()


@pytest.fixture
def wanted(url: str, database: Engine) -> Collection:  # noqa: ARG001 - its tables are what is collected from
    """Return what the examples below take from the new rows."""
    return Collection(
        url=url,
        query="SELECT * FROM sales WHERE processed = 0 ORDER BY id",
        mark="UPDATE sales SET processed = 1 WHERE id = :id",
        name="housing",
        model=MODEL,
        topic="ground-truth",
        columns={"MedInc": "median_income", "target": "actual_price", "occurred_at": "sold_at"},
        source="collect",
        batch=3,
    )


@pytest.fixture
def marked(database: Engine) -> Callable[[], list[int]]:
    """Return what tells the ids of the rows that are marked."""

    def ask() -> list[int]:
        with database.connect() as connection:
            return list(connection.execute(text("SELECT id FROM sales WHERE processed = 1 ORDER BY id")).scalars())

    return ask


def test_rows_become_records_with_the_fields_of_the_model_and_no_others(wanted: Collection) -> None:
    broker = Broker()

    collect(wanted, broker, _silent)

    first = broker.records[0]
    assert first.pop("occurred_at").startswith("2026-11-01")
    assert first == {
        "model": "housing",
        "event_id": "collect:1",
        "source": "collect",
        "features": {"MedInc": 8.3252, "HouseAge": 41.5},
        "label": 0.5,
    }


def test_all_labelled_rows_are_sent_and_marked_in_batches(wanted: Collection, marked: Callable[[], list[int]]) -> None:
    broker, reports = Broker(), list[Progress]()

    done = collect(wanted, broker, reports.append)

    assert done == Progress(sent=6, marked=6, skipped=1)
    assert [(r.sent, r.marked) for r in reports] == [(3, 3), (6, 6)]
    assert broker.sizes == [3, 3]
    assert marked() == [1, 2, 4, 5, 6, 7]


def test_what_the_broker_did_not_take_is_not_marked_and_comes_again(
    wanted: Collection, marked: Callable[[], list[int]]
) -> None:
    with pytest.raises(Outage, match="broker is away"):
        collect(wanted, Broker(deliveries=1), _silent)
    assert marked() == [1, 2, 4]

    again = Broker()
    collect(wanted, again, _silent)

    assert [r["event_id"] for r in again.records] == ["collect:5", "collect:6", "collect:7"]
    assert marked() == [1, 2, 4, 5, 6, 7]


def test_rows_that_were_sent_but_not_marked_come_again_under_their_old_ids(wanted: Collection) -> None:
    """As after a crash between the two."""
    first, second = Broker(), Broker()
    with pytest.raises(WrongArgument):
        collect(replace(wanted, mark="UPDATE nowhere SET processed = 1 WHERE id = :id"), first, _silent)

    collect(wanted, second, _silent)

    assert first.records == second.records[:3]


def test_a_second_call_has_nothing_to_do(wanted: Collection) -> None:
    collect(wanted, Broker(), _silent)

    assert collect(wanted, Broker(deliveries=0), _silent) == Progress(sent=0, marked=0, skipped=1)


def test_a_mark_that_changes_other_rows_as_well_changes_none(
    wanted: Collection, marked: Callable[[], list[int]]
) -> None:
    with pytest.raises(WrongArgument, match="changed 21 rows for 3"):
        collect(replace(wanted, mark="UPDATE sales SET processed = 1 WHERE id = :id OR 1 = 1"), Broker(), _silent)

    assert marked() == []


def test_a_number_that_is_none_is_no_missing_value(database: Engine, wanted: Collection) -> None:
    """JSON has no infinity; null would be taken for unknown, and an optional feature may be unknown."""
    infinite = 'SELECT id, 1 AS median_income, 9e999 AS "HouseAge", 1 AS actual_price, NULL AS sold_at FROM sales'
    if database.name == "postgresql":
        infinite = infinite.replace("9e999", "'Infinity'::float8")
    broker = Broker()

    collect(replace(wanted, query=infinite), broker, _silent)

    assert broker.records[0]["features"]["HouseAge"] == "inf"
    assert "occurred_at" not in broker.records[0]


def test_bytes_are_no_value_of_a_field(database: Engine, wanted: Collection) -> None:
    raw = "'x'::bytea" if database.name == "postgresql" else "x'00'"
    query = f'SELECT id, 1 AS median_income, {raw} AS "HouseAge", 1 AS actual_price, NULL AS sold_at FROM sales'  # noqa: S608 - ours

    with pytest.raises(WrongArgument, match="column 'HouseAge' holds bytes"):
        collect(replace(wanted, query=query), Broker(), _silent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query": "SELECT id, actual_price, sold_at FROM sales"},
            "no column 'HouseAge', 'median_income', which model",
        ),
        ({"columns": {"target": "cost"}}, "no column 'MedInc', 'cost'"),
        ({"columns": {"Income": "median_income"}}, "--map Income: no field of model 'housing'; expected one of MedInc"),
        ({"query": "SELECT * FROM nowhere"}, "--query: the database refuses it"),
        ({"query": "SELECT * FROM sales WHERE id = :id"}, "--query: A value is required for bind parameter 'id'"),
        ({"query": "DELETE FROM sales WHERE id < 0"}, "--query: "),
        ({"mark": "UPDATE sales SET processed = 1"}, "--mark: expected it to name the row"),
        ({"mark": "UPDATE sales SET processed = 1 WHERE id = :number"}, "no column 'number'"),
        ({"mark": "UPDATE sales SET done = 1 WHERE id = :id"}, "--mark: the database refuses it"),
    ],
)
def test_what_will_not_do_is_named(
    change: dict[str, Any], message: str, wanted: Collection, marked: Callable[[], list[int]]
) -> None:
    with pytest.raises(WrongArgument) as caught:
        collect(replace(wanted, **change), Broker(), _silent)

    assert message in str(caught.value)
    assert marked() == []


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("no url", WrongArgument, "--url: no URL; expected what SQLAlchemy takes"),
        ("nosuch://me:hunter2@host/d", WrongArgument, "--url: no database is called 'nosuch'"),
        ("oracle+oracledb://me:hunter2@host/d", WrongArgument, "needs the module 'oracledb', not installed"),
        ("sqlite:///nowhere/sales.db", WrongArgument, "--url: no file 'nowhere/sales.db'"),
        ("postgresql://me:hunter2@127.0.0.1:1/d", Outage, "--url: the database cannot be reached"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_without_its_password(
    url: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = Collection(
        url=url, query="", mark=":id", name="m", model=MODEL, topic="t", columns={}, source="collect", batch=1
    )

    with pytest.raises(error) as caught:
        collect(wanted, Broker(), _silent)

    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
