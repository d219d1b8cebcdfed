"""What `config check` finds beyond the shape of the settings."""

from pathlib import Path
from typing import Any

import pytest

from stream_app.checking import checked, problems
from stream_app.configuration import Mistakes, drafted
from stream_app.layers import Layer
from stream_app.settings import Settings

MODEL: dict[str, Any] = {"task": "binary", "target": "y", "classes": [0, 1], "features": {"x": {}}}


def settings(kafka: dict[str, Any] | None = None, **model: Any) -> Settings:  # noqa: ANN401 - any value of a setting
    return Settings.model_validate({"kafka": kafka or {}, "models": {"m": {**MODEL, **model}}})


def test_settings_that_work_have_none() -> None:
    assert problems(settings()) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"features": {}}, "models.m: features: expected them to be set, or data to name a file"),
        ({"classes": None}, "models.m: classes: expected them to be set, or data to name a file"),
        ({"data": "missing.csv", "features": {}}, "models.m: missing.csv: cannot be read"),
        ({"online": {"name": "linear_model.Nope"}}, "models.m: online.name: "),
        ({"online": {"params": {"l7": 1}}}, "models.m: online.params.l7: "),
        ({"online": {"name": "linear_model.LinearRegression"}}, "models.m: online.name: "),
        ({"retrain": {"candidates": [{"name": "os.system"}]}}, "models.m: retrain.candidates"),
        ({"metric": "charm"}, "models.m: metric"),
    ],
)
def test_a_model_that_cannot_be_built_is_told(changed: dict[str, Any], told: str) -> None:
    (problem,) = problems(settings(**changed))

    assert problem.startswith(told)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"acks": "1"}, "kafka.extra.acks cannot be set"),
        ({"security.protocol": "smoke"}, "kafka.extra.security.protocol is 'smoke'"),
        ({"no.such.option": "1"}, "kafka.extra.no.such.option"),
        ({"ssl.ca.location": "missing.pem", "security.protocol": "ssl"}, "kafka.extra.ssl"),
    ],
)
def test_options_of_kafka_that_cannot_be_are_told(extra: dict[str, str], told: str) -> None:
    (problem,) = problems(settings({"extra": extra, "bootstrap_servers": "127.0.0.1:1"}))

    assert problem.startswith(told)


def test_options_of_kafka_are_told_one_by_one_and_those_of_security_together() -> None:
    login = {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}

    assert problems(settings({"extra": login})) == []
    assert [
        problem.partition(" cannot")[0]
        for problem in problems(settings({"extra": {**login, "no.such": "1", "nor.this": "1"}}))
    ] == ["kafka.extra.no.such", "kafka.extra.nor.this"]


def test_all_are_told_at_once() -> None:
    both = Settings.model_validate(
        {"kafka": {"extra": {"acks": "1"}}, "models": {name: {**MODEL, "classes": None} for name in ("a", "b")}}
    )

    assert [problem.partition(":")[0] for problem in problems(both)] == [
        "kafka.extra.acks cannot be set",
        "models.a",
        "models.b",
    ]


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ({"url": "mysql://u:hunter2@h/db"}, "storage.url = ********** ('mysql'): expected postgresql://"),
        ({"url": "foo"}, "storage.url = ********** (no URL): expected postgresql://"),
        ({"url": "sqlite://"}, "storage.url = ********** (SQLite in memory"),
        ({"artifacts": "s9://bucket"}, "storage.artifacts = 's9://bucket' (Protocol not known"),
        ({"signing_key": "zz"}, "storage.signing_key = **********: expected an Ed25519 private key in PEM"),
        ({"verify_key": "zz"}, "storage.verify_key = 'zz': expected an Ed25519 public key in PEM"),
        ({"checkpoint_key": "zz"}, "storage.checkpoint_key = ********** (not in hex): expected 64 hex digits"),
        ({"checkpoint_key": "00"}, "storage.checkpoint_key = ********** (2 digits): expected 64 hex digits"),
    ],
)
def test_storage_that_no_process_could_open_is_told(storage: dict[str, str], told: str) -> None:
    (problem,) = problems(Settings.model_validate({"storage": storage}))

    assert problem.startswith(told)
    assert "hunter2" not in problem


@pytest.mark.parametrize("url", ["postgresql://u:p@h/db", "postgres://u:p@h/db", "postgresql+psycopg://u:p@h/db"])
def test_postgresql_is_understood_however_it_is_written(url: str) -> None:
    assert problems(Settings.model_validate({"storage": {"url": url}})) == []


def test_a_folder_is_looked_for_and_not_made(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()

    fine = problems(Settings.model_validate({"storage": {"root": tmp_path / "a" / "b"}}))
    (problem,) = problems(Settings.model_validate({"storage": {"root": taken / "b"}}))

    assert fine == []
    assert problem == f"storage.root = '{taken}/b': expected a folder, but {taken} is none"
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.parametrize("address", ["no port here", "a", "a:0", "a:99999", "a:1;b:2", "a:1,b", ",", "http://a:1"])
def test_an_address_without_a_port_is_told(address: str) -> None:
    (problem,) = problems(settings({"bootstrap_servers": address}))

    assert problem.startswith(f"kafka.bootstrap_servers = {address!r}: expected host:port")


@pytest.mark.parametrize("address", ["a:1", "a.b-c_d:9092, 10.0.0.1:2", "[::1]:9092"])
def test_an_address_with_its_port_is_fine(address: str) -> None:
    assert problems(settings({"bootstrap_servers": address})) == []


def test_no_mistake_hides_another(tmp_path: Path) -> None:
    """Each of these is found by another check: of types, of sections, of data files, of learners."""
    data = tmp_path / "d.csv"
    data.write_text("a,b\n1,2\n")
    tree = {
        "kafka": {"group_id": 3, "topics": {"ground_truth": "model-updated"}, "extra": {"group.id": "x", "acks": "1"}},
        "models": {
            "a": {**MODEL, "classes": [0, 1, 2], "features": {"y": {}}, "online": {"params": {"l7": 1}}},
            "b": {"task": "regression", "target": "y", "data": str(tmp_path / "none.csv"), "metric": "charm"},
            "c": {"task": "regression", "target": "y", "data": str(data)},
            "d": {"target": "y", "features": {"y": {}}},
            "e": {**MODEL, "task": "multiclass", "classes": ["a"]},
            "f": {**MODEL, "features": {"y": {"type": "text"}}},
        },
    }

    found = drafted([Layer(name="here", tree=tree)])
    told = [*found.mistakes, *problems(found.settings, found.is_sound)]

    starts = [
        "kafka.group_id = 3 (here): expected a text",
        "models.d.task: expected it to be set",
        "models.f.features.y.type = 'text' (here): expected 'number' or 'category'",
        "kafka.topics.ground_truth = 'model-updated' (here): expected ",
        "models.a.target = 'y' (here): expected the target 'y' not among the features",
        "models.a.classes = [0, 1, 2] (here): expected two classes",
        "models.d.target = 'y' (here): expected the target",
        "models.e.classes = ['a'] (here): expected at least two classes",
        "models.f.target = 'y' (here): expected the target",
        "kafka.extra.group.id cannot be set",
        "kafka.extra.acks cannot be set",
        "models.a: online.params.l7: ",
        f"models.b: {tmp_path}/none.csv: cannot be read",
        "models.b: metric: 'charm'",
        f"models.c: {data}: no column 'y'",
    ]
    assert [sentence[: len(start)] for sentence, start in zip(told, starts, strict=True)] == starts


def test_processes_do_not_start_on_what_a_check_finds(tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        checked(Settings.model_validate({"storage": {"url": "foo", "checkpoint_key": "zz", "root": tmp_path}}))

    assert len(caught.value.mistakes) == 2


def test_processes_get_the_models_filled_in(tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("a,y\n1,0\n2,1\n")

    model = checked(settings(features={}, classes=None, data=data)).models["m"]

    assert (list(model.features), model.classes) == (["a"], (0, 1))
