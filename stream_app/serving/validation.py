"""What is wrong with records, field by field: `loc` without "body", and the words of the documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from stream_app.core.schema import META, Schema
from stream_app.errors import InvalidRecord
from stream_app.serving.errors import MOST_DETAILS, Detail, Invalid, detail

#: (msg, type) by the reason of an `InvalidRecord`; None keeps the schema's own sentence.
_WORDS: Final[Mapping[str, tuple[str | None, str]]] = {
    "missing_field": ("field required", "value_error.missing"),
    "missing_label": ("field required", "value_error.missing"),
    "wrong_type": (None, "type_error"),
    "out_of_bounds": (None, "value_error.bounds"),
    "unknown_category": (None, "value_error.category"),
    "unknown_class": (None, "value_error.class"),
    "bad_label": (None, "type_error.label"),
}


def flaws(schema: Schema, records: Sequence[Mapping[str, Any]], *, places: Sequence[Sequence[str | int]]) -> Invalid:
    """Return the answer to records of which at least one does not fit the schema, every bad field of the first few.

    `places` says where in the body each record is, e.g. () or (2,).
    """
    found = (flaw for record, place in zip(records, places, strict=True) for flaw in _of_record(schema, record, place))
    return Invalid(
        list(islice(found, MOST_DETAILS)) or [detail([], "the records do not fit the schema", "value_error")]
    )


def label_flaws(schema: Schema, labels: Sequence[Any], *, places: Sequence[Sequence[str | int]]) -> list[Detail]:
    """Return what is wrong with labels, the first few; none if all are classes or values of the model."""
    found = (flaw for label, place in zip(labels, places, strict=True) for flaw in _of_label(schema, label, place))
    return list(islice(found, MOST_DETAILS))


def _of_record(schema: Schema, record: Mapping[str, Any], place: Sequence[str | int]) -> Iterator[Detail]:
    """Yield what is wrong with each field, by asking a schema of that field alone."""
    for field in schema.fields:
        alone = replace(schema, fields=(field,), extra_features="ignore")
        try:
            alone.features([record])
        except InvalidRecord as error:
            yield told(error, [*place, field.name])
    if schema.extra_features == "reject":
        for name in sorted(record.keys() - {f.name for f in schema.fields} - {schema.target} - set(META)):
            yield detail([*place, name], "extra fields not permitted", "value_error.extra")


def _of_label(schema: Schema, label: object, place: Sequence[str | int]) -> Iterator[Detail]:
    if label is None:
        yield detail(place, "field required", "value_error.missing")
        return
    try:
        schema.encode_labels([label])
    except InvalidRecord as error:
        yield told(error, place)


def told(error: InvalidRecord, loc: Sequence[str | int]) -> Detail:
    """Return a schema's complaint in the words of the documents."""
    msg, type_ = _WORDS.get(error.reason, (None, f"value_error.{error.reason}"))
    return detail(loc, msg or str(error), type_)
