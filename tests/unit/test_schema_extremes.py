"""Integers that Python has and floats do not: refused in words, wherever a record may hold one."""

import pytest

from stream_app.core.schema import Field, Schema
from stream_app.errors import InvalidRecord
from stream_app.values import Task

#: More digits than Python writes.
UNWRITABLE = 10**5000
SCHEMA = Schema(
    task=Task.REGRESSION,
    target="y",
    fields=(Field(name="a", type="number"), Field(name="c", type="category", required=False)),
    classes=(),
)


@pytest.mark.parametrize(
    ("big", "shown"),
    [pytest.param(10**400, "int '1000000000", id="400"), pytest.param(UNWRITABLE, "int 'of too many", id="5000")],
)
def test_a_label_beyond_all_floats_is_refused(big: int, shown: str) -> None:
    with pytest.raises(InvalidRecord, match=f"label 'y' is {shown}") as refused:
        SCHEMA.encode_labels([1.0, big])
    assert refused.value.reason == "bad_label"


def test_a_class_of_too_many_digits_is_refused() -> None:
    schema = Schema(task=Task.BINARY, target="y", fields=(), classes=(0, 1))
    with pytest.raises(InvalidRecord, match="label 'y' is int 'of too many digits', expected one of"):
        schema.encode_labels([UNWRITABLE])


def test_a_category_of_too_many_digits_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="field 'c' is int 'of too many digits', expected a category"):
        SCHEMA.features([{"a": 1, "c": UNWRITABLE}])


def test_the_place_of_the_first_bad_record_is_told() -> None:
    place, error = SCHEMA.culprit([{"a": 1}, {"a": 2}, {"a": "x"}, {}])
    assert (place, str(error)) == (2, "field 'a' is str 'x', expected a number")
