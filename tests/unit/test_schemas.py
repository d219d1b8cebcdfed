"""The contract under schemas/: up to date, complete, valid, and never broken for somebody who relies on it."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry, Resource

from stream_app.compatibility import breaks
from stream_app.contract import topics
from stream_app.documents import generate, to_yaml, write
from stream_app.errors import Conflict
from stream_app.kafka import cloudevents
from stream_app.kafka.dead_letters import Grave, dead_letter
from stream_app.settings import KafkaSettings
from stream_app.values import Partition, Run

FOLDER = Path(__file__).parents[2] / "schemas"
SCHEMAS = {path.name: json.loads(path.read_text()) for path in FOLDER.glob("*.schema.json")}
REGISTRY = Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items())
TOPICS = [yaml.safe_load(path.read_text()) for path in sorted((FOLDER / "topics").glob("*.yaml"))]
EXAMPLES = [
    pytest.param(form["value"] or form["headers"], FOLDER / "examples" / example, id=example)
    for topic in TOPICS
    for form in topic["messages"]
    for example in form["examples"]
]


def validate(value: object, schema: str) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[schema], registry=REGISTRY).validate(value)


def test_the_files_are_those_that_the_code_generates() -> None:
    committed = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*") if path.is_file()}

    assert committed == generate(), "run scripts/schemas"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_each_schema_is_valid(schema: dict[str, object]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("schema", "path"), EXAMPLES)
def test_each_example_validates(schema: str, path: Path) -> None:
    validate(json.loads(path.read_text()), schema)


def test_every_form_has_an_example() -> None:
    assert all(form["examples"] for topic in TOPICS for form in topic["messages"])


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"label": 1}, "ground-truth.v1.schema.json"),
        ({"features": {"a": [1]}, "label": 1}, "ground-truth.v1.schema.json"),
        ({"features": {}, "label": 1, "event_id": "x" * 257}, "ground-truth.v1.schema.json"),
        ({"a": {"b": 1}, "y": 1}, "ground-truth-flat.v1.schema.json"),
        ([], "ground-truth-batch.v1.schema.json"),
        ({"model": "../m", "promotion_seq": 1, "serving": [], "published_at": 0}, "model-updated.v1.schema.json"),
        ({"ce_id": "1"}, "event-headers.v1.schema.json"),
    ],
)
def test_the_schemas_refuse_what_is_no_message(value: object, schema: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(value, schema)


def test_a_real_dead_letter_carries_the_documented_headers() -> None:
    run = Run(
        partition=Partition(incarnation="i", topic="t", number=0),
        offsets=[7],
        keys=[b"m"],
        values=[b"no json, and too long"],
        headers=[[("theirs", b"kept")]],
        timestamps_ms=[0],
    )
    grave = Grave(suffix=".dlq", group="g", max_message_bytes=5)
    letter = dead_letter(grave, run, 0, index=3, reason="not_json", error="bad", now=0.0)
    headers = {name: value.decode() for name, value in letter.headers}

    validate(headers, "dead-letter-headers.v1.schema.json")
    assert headers.keys() - {"theirs"} <= SCHEMAS["dead-letter-headers.v1.schema.json"]["properties"].keys()


def test_a_real_event_carries_the_documented_headers() -> None:
    sent = cloudevents.headers(event_id="1", type_="io.stream_app.model.loaded.v1", time_s=0.0, subject="m")
    headers = {name: value.decode() for name, value in sent}

    validate(headers, "event-headers.v1.schema.json")
    assert headers.keys() == SCHEMAS["event-headers.v1.schema.json"]["properties"].keys()


def test_every_topic_of_ours_is_described() -> None:
    assert {topic.name for topic in topics()} == set(KafkaSettings().topic_names)


def test_a_topic_that_is_declared_compacted_is_described_so() -> None:
    from stream_app.kafka.topics import _wanted  # noqa: PLC0415 - no public door leads to the options

    declared = {topic.topic: topic.config.get("cleanup.policy", "delete") for topic in _wanted(KafkaSettings())}

    assert declared == {topic.name: topic.cleanup_policy for topic in topics()}


def test_the_asyncapi_document_only_points_at_what_is_there() -> None:
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())

    for reference in _references(document):
        if reference.startswith("#/"):
            target = document
            for part in reference[2:].split("/"):
                target = target[part]
        else:
            assert (FOLDER / reference).is_file(), reference


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in _references(inner)]
    return [found for inner in value for found in _references(inner)] if isinstance(value, list) else []


# beyond these PyYAML takes JSON's spelling of a number for text; no document of ours holds such
NUMBERS = st.integers() | st.floats(min_value=1e-3, max_value=1e15)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()


@given(
    st.dictionaries(
        st.text(), st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)), min_size=1
    )
)
def test_yaml_is_read_back_as_it_was(value: dict[str, object]) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


OLD = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 10},
        "n": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        "kind": {"enum": ["a", "b"], "type": "string"},
        "many": {"type": "array", "items": {"$ref": "#/$defs/One"}},
    },
    "required": ["id"],
    "$defs": {"One": {"type": "object", "properties": {"x": {"type": "number"}}}},
}


def changed(**properties: object) -> dict[str, object]:
    return {**OLD, "properties": {**OLD["properties"], **properties}}


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ({**OLD, "properties": {"id": {"type": "string", "maxLength": 10}}}, "n: was removed"),
        (changed(id={"type": "integer"}), "id: was string, is integer"),
        (changed(n={"type": "integer", "minimum": 0}), "n: was integer, null, is integer"),
        ({**OLD, "required": ["id", "n"]}, "n: became required"),
        (changed(id={"type": "string", "maxLength": 9}), "id: maxLength is 9 now, was 10"),
        (changed(id={"type": "string", "maxLength": 10, "pattern": "x"}), "id: must match x now"),
        (changed(n={"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}), "n: minimum is 1 now, was 0"),
        (changed(kind={"enum": ["a"], "type": "string"}), "kind: no longer accepts b"),
        ({**OLD, "$defs": {"One": {"type": "object"}}}, "many[].x: was removed"),
    ],
)
def test_what_breaks_a_reader_or_writer_is_named(new: dict[str, object], sentence: str) -> None:
    assert sentence in breaks(OLD, new)


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        changed(added={"type": "string"}),
        changed(id={"type": "string", "maxLength": 11, "description": "other words"}),
        changed(kind={"enum": ["a", "b", "c"], "type": "string"}),
        {**OLD, "required": []},
    ],
)
def test_what_only_adds_is_accepted(new: dict[str, object]) -> None:
    assert breaks(OLD, new) == []


def test_a_break_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "ground-truth.v1.schema.json"
    older = json.loads(path.read_text())
    older["properties"]["gone"] = {"type": "string"}
    path.write_text(json.dumps(older))
    (tmp_path / "asyncapi.yaml").write_text("old")

    with pytest.raises(Conflict, match="gone: was removed"):
        write(tmp_path)

    assert (tmp_path / "asyncapi.yaml").read_text() == "old"
