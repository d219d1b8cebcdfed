"""What `config check` finds beyond the shape of the settings."""

from typing import Any

import pytest

from stream_app.checking import problems
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


def test_all_are_told_at_once() -> None:
    both = Settings.model_validate(
        {"kafka": {"extra": {"acks": "1"}}, "models": {name: {**MODEL, "classes": None} for name in ("a", "b")}}
    )

    assert [problem.partition(":")[0] for problem in problems(both)] == [
        "kafka.extra.acks cannot be set",
        "models.a",
        "models.b",
    ]
