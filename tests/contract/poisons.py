"""Every kind of message that must not be learned, each with the reason it is to be refused for."""

import json
from typing import Any, Final

import orjson

GOOD: Final[dict[str, Any]] = {"a": 1.5, "b": 2, "plan": "basic", "y": 1}
#: The model that the poison is meant for.
MODEL: Final[dict[str, Any]] = {
    "features": {
        "a": {"low": -1000, "high": 1000},
        "b": {},
        "plan": {"type": "category", "values": ["basic", "gold"]},
    },
    "extra_features": "reject",
}
#: Kafka's own time of the messages, seconds.
SENT_AT: Final = 1_750_000_000


def _but(**fields: Any) -> bytes:  # noqa: ANN401 - JSON
    return orjson.dumps(GOOD | fields)


def _spelled(**fields: str) -> bytes:
    """Return a record with fields in a spelling of their own, as no encoder would write them."""
    return (
        "{" + ",".join(f'"{n}":{v}' for n, v in ({n: json.dumps(v) for n, v in GOOD.items()} | fields).items()) + "}"
    ).encode()


#: name: (value, reason)
POISONS: Final[dict[str, tuple[bytes | None, str]]] = {
    "garbage": (bytes(range(256)), "not_json"),
    "invalid UTF-8": (_spelled(plan='"\N{DEGREE SIGN}"').replace(b"\xc2", b"\xff"), "not_json"),
    "lone surrogate": (_spelled(plan=r'"\ud800"'), "not_json"),
    "tombstone": (None, "tombstone"),
    "empty": (b"", "not_json"),
    "cut short": (_but()[:-1], "not_json"),
    "two in one": (_but() * 2, "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + _but(), "not_json"),
    "number": (b"5", "not_an_object"),
    "null": (b"null", "not_an_object"),
    "deep arrays": (b"[" * 100_000, "not_json"),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not_json"),
    "deep field": (_spelled(a="[" * 900 + "]" * 900), "wrong_type"),
    "huge message": (_but(plan="x" * 5_000_000), "too_large"),
    "huge array": (b"[" + b"{}," * 10_000 + b"{}]", "too_large"),
    "100,000 features": (orjson.dumps(GOOD | {f"feature_{i}": i for i in range(100_000)}), "too_large"),
    "10,000 features": (orjson.dumps(GOOD | {f"f{i}": i for i in range(10_000)}), "unknown_field"),
    "NaN": (_spelled(a="NaN"), "not_json"),
    "Infinity": (_spelled(a="-Infinity"), "not_json"),
    "overflow": (_spelled(b="1e999"), "not_json"),
    "1e308": (_spelled(b="1e308"), "out_of_bounds"),
    "400 digits": (_spelled(b="9" * 400), "not_json"),
    "20 digits": (_spelled(b="9" * 20), "out_of_bounds"),
    "beyond its bounds": (_but(a=1000.5), "out_of_bounds"),
    "bool as number": (_but(a=True), "wrong_type"),
    "text as number": (_but(a="1.5"), "wrong_type"),
    "object as number": (_but(a={"value": 1}), "wrong_type"),
    "null number": (_but(b=None), "missing_field"),
    "absent number": (orjson.dumps({"a": 1, "plan": "basic", "y": 1}), "missing_field"),
    "list as category": (_but(plan=["basic"]), "wrong_type"),
    "unknown category": (_but(plan="silver"), "unknown_category"),
    "unknown field": (_but(surprise=1), "unknown_field"),
    "unknown class": (_but(y=7), "unknown_class"),
    "bool as class": (_but(y=True), "unknown_class"),
    "list as class": (_but(y=[1]), "bad_label"),
    "no label": (orjson.dumps({n: v for n, v in GOOD.items() if n != "y"}), "missing_label"),
    "null label": (_but(y=None), "missing_label"),
    "no features": (b'{"features":[1],"label":1}', "missing_label"),
    "bad envelope": (b'{"features":{"a":1,"b":{},"plan":"gold"},"label":1}', "wrong_type"),
    "long id": (_but(event_id="x" * 257), "bad_id"),
    "object as id": (_but(event_id={}), "bad_id"),
    "id with NUL": (_but(event_id="\0prediction"), "bad_id"),
    "list as source": (_but(source=[1]), "bad_id"),
    "no time": (_but(occurred_at="yesterday"), "bad_time"),
    "bool as time": (_but(occurred_at=True), "bad_time"),
    "time before time": (_but(occurred_at="0001-01-01T00:00:00+23:59"), "bad_time"),
    "time after time": (_but(occurred_at="9999-12-31T23:59:59-23:59"), "bad_time"),
    "time in milliseconds": (_but(occurred_at=SENT_AT * 1000), "bad_time"),
    "two days ahead": (_but(occurred_at=SENT_AT + 172_800), "bad_time"),
    "nothing served": (_but(served=5), "bad_served"),
    "served beyond certainty": (_but(served={"version": "1", "output": 1.5}), "bad_served"),
    "served by nobody": (_but(served={"version": 1, "output": 0.5}), "bad_served"),
    "unknown model": (_but(model="nobody"), "unknown_model"),
    "path as model": (_but(model="../../etc"), "unknown_model"),
    "nested number of a key": (_spelled(b='{"b":1,"b":2}'), "wrong_type"),
}
#: Origins that no forwarder of ours would write.
FORGED: Final = (
    "",
    "////",
    "a/b/0/1",
    "a/b/0/-1/0",
    "a/b/0/\N{SUPERSCRIPT TWO}/0",
    "a/b/0/\N{ARABIC-INDIC DIGIT TWO}/0",
    f"a/b/0/{'9' * 5_000}/0",
    f"a/b/0/{'9' * 30}/0",
    f"{'a' * 5_000}/b/0/1/0",
    "a\0/b/0/1/0",
)
