"""The files below `schemas/`: JSON Schemas, topic files, examples and the AsyncAPI document.

All of it is generated from the vocabulary and the settings, so that code and contract cannot differ. What would
break a reader or writer of a schema that is there already is refused: such a change needs a new file, `.v2`.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from stream_app import __version__
from stream_app.compatibility import breaks
from stream_app.contract import Document, Form, Topic, schemas, topics
from stream_app.errors import Conflict

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FORMAT: Final = "application/schema+json;version=draft-2020-12"
_TEXT: Final = {"type": "string"}
_REFUSAL: Final = "readers or writers would break; write a .v2 beside it, or remove what no release has carried yet:"


def generate() -> dict[str, str]:
    """Return every generated file below `schemas/`: its content by its path."""
    files = {
        _schema_file(name): _json({"$schema": _DIALECT, "$id": _schema_file(name), **schema})
        for name, schema in schemas().items()
    }
    files["asyncapi.yaml"] = to_yaml(_asyncapi())
    for topic in topics():
        files[f"topics/{topic.name}.yaml"] = to_yaml(_topic_file(topic))
        files |= {path: _json(example) for path, example in _example_files(topic)}
    return files


def write(folder: Path) -> None:
    """Write the generated files; raises Conflict, having written nothing, when a schema there would break."""
    files = generate()
    broken = [
        f"{name}: {sentence}"
        for name, content in files.items()
        if name.endswith(".schema.json") and (folder / name).is_file()
        for sentence in breaks(json.loads((folder / name).read_text()), json.loads(content))
    ]
    if broken:
        raise Conflict("\n  ".join([_REFUSAL, *broken]))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def _schema_file(name: str) -> str:
    return f"{name}.v1.schema.json"


def _example_files(topic: Topic) -> Iterator[tuple[str, Any]]:
    for form in topic.forms:
        for name, example in form.examples.items():
            yield f"examples/{topic.name}/{name}.json", example


def _topic_file(topic: Topic) -> Document:
    return {
        "topic": topic.name,
        "description": topic.description,
        "key": topic.key,
        "cleanup_policy": topic.cleanup_policy,
        "retention": topic.retention,
        "messages": [_form_entry(topic, form) for form in topic.forms],
    }


def _form_entry(topic: Topic, form: Form) -> Document:
    return {
        "name": form.name,
        "description": form.description,
        "value": _schema_file(form.schema) if form.schema else None,
        "headers": _schema_file(form.headers) if form.headers else None,
        "examples": [f"{topic.name}/{name}.json" for name in form.examples],
    }


def _asyncapi() -> Document:
    """Return the AsyncAPI 3.0 document, with Kafka bindings 0.5.0."""
    ours = topics()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stream_app",
            "version": __version__,
            "description": "Continuous learning on Kafka. The topics' names are defaults; settings may change them.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka", "description": "kafka.bootstrap_servers"}},
        "channels": {_identifier(topic.name): _channel(topic) for topic in ours},
        "operations": {f"{topic.action}-{_identifier(topic.name)}": _operation(topic) for topic in ours},
        "components": {"messages": {form.name: _message(topic, form) for topic in ours for form in topic.forms}},
    }


def _identifier(topic: str) -> str:
    return topic.replace(".", "-")


def _channel(topic: Topic) -> Document:
    binding = {"topicConfiguration": {"cleanup.policy": [topic.cleanup_policy]}, "bindingVersion": "0.5.0"}
    return {
        "address": topic.name,
        "description": topic.description,
        "messages": {form.name: {"$ref": f"#/components/messages/{form.name}"} for form in topic.forms},
        "bindings": {"kafka": binding},
    }


def _operation(topic: Topic) -> Document:
    channel = f"#/channels/{_identifier(topic.name)}"
    return {
        "action": topic.action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{form.name}"} for form in topic.forms],
    }


def _message(topic: Topic, form: Form) -> Document:
    message: Document = {
        "name": form.name,
        "summary": form.description,
        "contentType": "application/json" if form.schema else "application/octet-stream",
        "bindings": {"kafka": {"key": {**_TEXT, "description": topic.key}, "bindingVersion": "0.5.0"}},
    }
    if form.headers:
        message["headers"] = _reference(form.headers)
    if form.schema:
        message["payload"] = _reference(form.schema)
        message["examples"] = [{"name": name, "payload": example} for name, example in form.examples.items()]
    return message


def _reference(schema: str) -> Document:
    return {"schemaFormat": _FORMAT, "schema": {"$ref": f"./{_schema_file(schema)}"}}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def to_yaml(value: object) -> str:
    """Return YAML: nesting by indentation, every text in JSON's quotes, which YAML reads the same."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _entry(f"{_key(name)}:", inner)
    elif isinstance(value, list) and value:
        for inner in value:
            first, *rest = _lines(inner)
            yield from (f"- {first}", *(f"  {line}" for line in rest))
    else:
        yield _quoted(value)


def _key(name: str) -> str:
    is_plain = re.fullmatch(r"(?!(?i:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9_-]*", name)
    return name if is_plain else _quoted(name)


def _quoted(value: object) -> str:
    # JSON leaves these as they are, YAML wants them escaped
    return re.sub(
        r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]",
        lambda found: f"\\u{ord(found[0]):04x}",
        json.dumps(value, ensure_ascii=False),
    )


def _entry(name: str, inner: object) -> Iterator[str]:
    if isinstance(inner, Mapping | list) and inner:
        yield name
        yield from (f"  {line}" for line in _lines(inner))
    else:
        yield f"{name} {next(_lines(inner))}"


def main() -> int:
    """Write `schemas/` of the working folder; return 1 when that would break somebody."""
    try:
        write(Path("schemas"))
    except Conflict as error:
        sys.stderr.write(f"scripts/schemas: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
