"""The registry: numbers never used twice, statuses, and whose bytes may go."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import orjson
import pytest
from sqlalchemy import Engine, insert, update

from stream_app.errors import Conflict, NotFound
from stream_app.ports import Registry
from stream_app.storage import tables
from stream_app.storage.registry import SqlRegistry
from stream_app.storage.retention import Published
from stream_app.testing import InMemoryRegistry
from stream_app.values import ExpiredBytes, StoredArtifact, Version, VersionStatus


def artifact(path: str) -> StoredArtifact:
    return StoredArtifact(path=path, sha256="0" * 64, size=3, signature="s")


def candidate(model: str = "m", path: str | None = "m/x.zip") -> Version:
    return Version(
        model=model,
        number=0,
        kind="batch",
        algorithm="sklearn:LogisticRegression",
        status=VersionStatus.GATED,
        artifact=None if path is None else artifact(path),
        metrics={"accuracy": 0.75, "auc": None},
        trained_through=12,
        row_count=500,
        rows_digest="d",
        parent=1,
        trigger="volume",
        created_at=3.5,
    )


class SqlHouse:
    """What owners do, on the tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.registry: Registry = SqlRegistry(engine)

    def add_model(self, model: str) -> None:
        row = {"name": model, "epoch": 1, "seq": 0, "effects_seq": 0, "promotion_seq": 0, "champion": 0}
        row |= {"next_version": 1, "owner": "o", "schema_json": "{}", "created_at": 0.0}
        with self._engine.begin() as connection:
            connection.execute(insert(tables.models).values(row))

    def publish(self, published: Published) -> None:
        champion = int(published.version.partition(".")[0])
        row = {name: getattr(published, name) for name in ("model", "promotion_seq", "version", "published_at")}
        row |= {"algorithm": "a", "artifact": orjson.dumps(published.artifact).decode(), "trained_through": 1}
        pointer = {"champion": champion, "promotion_seq": published.promotion_seq}
        with self._engine.begin() as connection:
            connection.execute(insert(tables.publications).values(row))
            connection.execute(update(tables.models).where(tables.models.c.name == published.model).values(pointer))

    def ask_for(self, model: str, number: int) -> None:
        row = {"model": model, "kind": "promote", "body": f'{{"version": {number}}}'}
        row |= {"requested_by": "t", "requested_at": 0.0}
        with self._engine.begin() as connection:
            connection.execute(insert(tables.control_requests).values(row))


class MemoryHouse:
    """What owners do, on the fake."""

    def __init__(self) -> None:
        self.registry: Registry
        self.registry = fake = InMemoryRegistry()
        self.add_model, self.publish, self.ask_for = fake.add_model, fake.publish, fake.ask_for


House = SqlHouse | MemoryHouse


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def house(request: pytest.FixtureRequest) -> House:
    sql = None if request.param == "memory" else request.getfixturevalue(f"{request.param}_engine")
    house = MemoryHouse() if sql is None else SqlHouse(sql)
    house.add_model("m")
    return house


@pytest.fixture
def registry(house: House) -> Registry:
    return house.registry


def publish(house: House, promotion_seq: int, version: str, *, at: float = 0.0, path: str | None = None) -> None:
    stored = artifact(path or f"m/{version}.zip")
    house.publish(Published(model="m", promotion_seq=promotion_seq, version=version, published_at=at, artifact=stored))


def gone(expired: list[ExpiredBytes]) -> list[str]:
    return [each.version for each in expired]


def test_versions_are_numbered_by_the_registry(house: House, registry: Registry) -> None:
    house.add_model("n")
    first = registry.register(candidate())
    assert first == replace(candidate(), number=1)
    second = registry.register(replace(candidate(path=None), number=1, status=VersionStatus.REJECTED))
    assert second.number == 2
    assert registry.register(candidate("n")).number == 1
    assert registry.versions("m") == [second, first]
    assert registry.version("m", 2) == second


def test_what_does_not_exist_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match="model 'm' has no version 7"):
        registry.version("m", 7)
    with pytest.raises(NotFound, match="there is no model 'zebra'"):
        registry.register(candidate("zebra"))
    assert registry.versions("zebra") == []
    assert registry.champion("zebra") == (0, 0)


def test_numbers_given_at_once_differ(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = [version.number for version in pool.map(lambda _: registry.register(candidate()), range(24))]
    assert sorted(numbers) == list(range(1, 25))


def test_a_version_is_rejected_or_retired(registry: Registry) -> None:
    registry.register(candidate())
    registry.set_status("m", 1, VersionStatus.REJECTED)
    assert registry.version("m", 1).status == VersionStatus.REJECTED
    registry.set_status("m", 1, VersionStatus.RETIRED)
    assert registry.version("m", 1).status == VersionStatus.RETIRED
    with pytest.raises(NotFound):
        registry.set_status("m", 2, VersionStatus.RETIRED)


@pytest.mark.parametrize("status", [VersionStatus.PROMOTED, VersionStatus.GATED])
def test_promotion_is_the_owners_alone(registry: Registry, status: VersionStatus) -> None:
    registry.register(candidate())
    with pytest.raises(Conflict, match="only its owner"):
        registry.set_status("m", 1, status)


def test_what_serves_is_not_retired(house: House, registry: Registry) -> None:
    registry.register(candidate())
    publish(house, 1, "1")
    with pytest.raises(Conflict, match="serves now"):
        registry.set_status("m", 1, VersionStatus.RETIRED)
    assert registry.champion("m") == (1, 1)


def test_models_are_listed_with_where_they_stand(house: House, registry: Registry) -> None:
    house.add_model("a")
    publish(house, 3, "2.57")
    first, second = registry.models()
    assert (first["name"], first["champion"], first["promotion_seq"]) == ("a", 0, 0)
    assert (second["name"], second["champion"], second["promotion_seq"]) == ("m", 2, 3)
    assert set(first) == {"name", "epoch", "seq", "effects_seq", "champion", "promotion_seq", "created_at"}


def test_old_versions_lose_their_bytes_but_not_those_in_use(house: House, registry: Registry) -> None:
    for number in range(1, 11):
        registry.register(candidate(path=None if number == 4 else f"m/{number}.zip"))
    publish(house, 1, "2")
    house.ask_for("m", 3)
    expired = list(registry.expired_versions("m", keep=5))
    assert gone(expired) == ["5", "1"]
    assert [each.artifact.path for each in expired] == ["m/5.zip", "m/1.zip"]
    registry.mark_deleted(expired, now=9.0)
    assert registry.expired_versions("m", keep=5) == []
    assert registry.version("m", 5).artifact == artifact("m/5.zip")


def test_old_snapshots_lose_their_bytes_only_beyond_number_and_age(house: House, registry: Registry) -> None:
    for seq in range(1, 9):
        publish(house, seq, f"1.{seq}", at=float(seq))
    assert gone(list(registry.expired_snapshots("m", keep=3, newer_than=100))) == ["1.5", "1.4", "1.3", "1.2", "1.1"]
    assert registry.expired_snapshots("m", keep=3, newer_than=1.0) == []
    expired = list(registry.expired_snapshots("m", keep=3, newer_than=3.0))
    assert gone(expired) == ["1.2", "1.1"]
    registry.mark_deleted(expired, now=9.0)
    assert registry.expired_snapshots("m", keep=3, newer_than=3.0) == []


def test_the_newest_publication_and_versions_stay(house: House, registry: Registry) -> None:
    publish(house, 1, "2")
    publish(house, 2, "1.5")
    publish(house, 3, "1.6")
    assert gone(list(registry.expired_snapshots("m", keep=0, newer_than=100))) == ["1.5"]


def test_bytes_that_were_published_again_stay(house: House, registry: Registry) -> None:
    """A rollback publishes an older snapshot's bytes under a newer promotion."""
    publish(house, 1, "1.1", path="m/first.zip")
    publish(house, 2, "1.2")
    publish(house, 3, "1.1", path="m/first.zip")
    assert gone(list(registry.expired_snapshots("m", keep=1, newer_than=100))) == ["1.2"]


@pytest.mark.parametrize(
    ("published", "previous"),
    [
        ([], None),
        (["1.1", "1.2"], None),
        (["1.1", "1.2", "3", "1.7", "1.8"], 3),
        (["1.1", "2", "3", "2"], 3),
        (["1.1", "12", "1.5"], 12),
        (["1.1", "2", "12"], 2),
    ],
)
def test_what_served_before_is_the_newest_other_version(
    published: list[str], previous: int | None, house: House, registry: Registry
) -> None:
    """Whatever its number: after a rollback it is the greater one."""
    for _ in range(12):
        registry.register(candidate())
    for promotion_seq, version in enumerate(published, 1):
        publish(house, promotion_seq, version)
    assert registry.previous("m") == previous


def test_nothing_served_before_in_a_model_that_is_not_there(registry: Registry) -> None:
    assert registry.previous("zebra") is None


def test_it_knows_where_all_bytes_are_or_were(house: House, registry: Registry) -> None:
    house.add_model("n")
    for path in ("m/1.zip", None, "m/2.zip"):
        registry.register(candidate(path=path))
    registry.register(candidate("n", path="n/1.zip"))
    publish(house, 1, "2.57")
    expired = registry.expired_versions("m", keep=1)
    registry.mark_deleted(expired, now=9.0)
    assert gone(list(expired)) == ["1"]
    assert registry.artifact_paths("m") == {"m/1.zip", "m/2.zip", "m/2.57.zip"}
    assert registry.artifact_paths("n") == {"n/1.zip"}
    assert registry.artifact_paths("zebra") == set()
