"""What the tree of settings refuses by itself."""

from typing import Any

import pytest
from pydantic import ValidationError

from stream_app.model_settings import FeatureSettings, ModelSettings
from stream_app.settings import HttpSettings, KafkaSettings, Settings, TopicSettings

MODEL: dict[str, Any] = {"task": "binary", "target": "y"}


def test_the_defaults_are_valid() -> None:
    assert Settings.model_validate({}) == Settings()


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().kafka.group_id = "x"  # type: ignore[misc]  # that is what must fail


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TopicSettings, {"ground_truth": "a", "model_updated": "a"}, "five topics"),
        (TopicSettings, {"ground_truth": "no blanks"}, "pattern"),
        (KafkaSettings, {"session_timeout_s": 90}, "at least session_timeout_s"),
        (KafkaSettings, {"session_timeout_s": float("inf")}, "finite"),
        (KafkaSettings, {"ingest": {"raw": "../m"}}, "pattern"),
        (FeatureSettings, {"type": "category", "low": 0}, "only for a number"),
        (FeatureSettings, {"type": "number", "values": ["a"]}, "only for a category"),
        (FeatureSettings, {"low": 2, "high": 1}, "not above"),
        (ModelSettings, {**MODEL, "features": {"y": {}}}, "not among the features"),
        (ModelSettings, {**MODEL, "classes": [1]}, "two classes"),
        (ModelSettings, {**MODEL, "task": "multiclass", "classes": ["a"]}, "at least two classes"),
        (HttpSettings, {"worker_port": 9, "trainer_port": 9}, "to differ"),
        (ModelSettings, {**MODEL, "classes": ["a", "a"]}, "that differ"),
        (ModelSettings, {**MODEL, "task": "regression", "classes": [0, 1]}, "no classes"),
        (Settings, {"models": {"../m": MODEL}}, "pattern"),
        (Settings, {"modles": {}}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(kind: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(values)


def test_classes_keep_their_types() -> None:
    assert ModelSettings.model_validate({**MODEL, "classes": [False, True]}).classes == (False, True)
    assert [type(c) for c in ModelSettings.model_validate({**MODEL, "classes": [0, 1]}).classes or ()] == [int, int]


def test_every_topic_has_one_name() -> None:
    kafka = KafkaSettings(ingest={"raw": "m"})

    assert kafka.topic_names == (
        "ground-truth",
        "predictions",
        "feedback",
        "raw",
        "model-updated",
        "learning-events",
        "ground-truth.dlq",
        "predictions.dlq",
        "feedback.dlq",
        "raw.dlq",
    )


def test_every_key_says_what_it_is() -> None:
    """`config show` and the settings' schema are all the reference there is."""
    sections = Settings.model_json_schema()["$defs"]

    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, field in section.get("properties", {}).items()
        if not field.get("description") and "$ref" not in field
    ]

    assert silent == []
