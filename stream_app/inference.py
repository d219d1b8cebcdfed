"""The schema that a data file suggests: which columns are features, of which type, and what the target asks for.

The rules, in the order in which they are tried:

- **task**: two distinct labels make a binary task; text, booleans and whole numbers of at most 20 distinct
  values a multiclass one; any other numbers a regression.
- **feature**: numbers are numbers, text and booleans are categories; so are digits in a CSV of which some begin with
  a 0 that no number needs. A column is required when no row lacks it.
- **left out**: dates, also as text, and nested values; text that differs in every row, which names the row instead
  of describing it; text longer than a category may be; numbers beyond what learners accept.
- **no target**: what is left out as a feature, unless it is a number; classes of which more than nine in ten rows have
  one of their own, which name the row or are free text.
- **bounds**: none. What a file happened to hold is no limit; the range seen is shown for the reader to decide.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pandas as pd
from pandas.api import types

from stream_app.core.schema import LARGEST, LONGEST_CATEGORY
from stream_app.datafiles import read
from stream_app.errors import Misconfigured
from stream_app.model_settings import BINARY_CLASSES, FeatureSettings, ModelSettings
from stream_app.values import Task

#: Whole numbers with more distinct values are quantities, not classes.
MOST_NUMBERED_CLASSES: Final = 20
#: More classes than this are names or free text.
MOST_CLASSES: Final = 1_000
#: Fewer rows cannot show that a text column names the row.
LEAST_NAMED_ROWS: Final = 20
#: Where more of the rows have a label of their own, the labels are no classes.
MOST_DISTINCT: Final = 0.9
#: Rows beyond these are not looked at, so that a file of any size fits into memory.
MOST_ROWS: Final = 1_000_000

_MONTH: Final = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_ZONE: Final = "(?:z|utc|gmt|[+-][0-9]{2}:?[0-9]{2})"
_TIME: Final = rf"[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.,][0-9]+)?)?(?: ?[ap]m)?(?: ?{_ZONE})?"
#: Dates as text, as files have them, with or without a time of day. Three numbers with dots need a year of four
#: digits: 1.10.24 is a version more often than a day.
_DATE: Final = re.compile(
    r"(?:[0-9]{4}([-/.])[0-9]{1,2}\1[0-9]{1,2}"
    r"|[0-9]{1,2}([-/.])[0-9]{1,2}\2[0-9]{4}"
    r"|[0-9]{1,2}/[0-9]{1,2}/[0-9]{2}"
    rf"|[0-9]{{1,2}}\.?[- /]{_MONTH}\.?,?[- /][0-9]{{2,4}}"
    rf"|{_MONTH}\.? [0-9]{{1,2}},? [0-9]{{4}})"
    rf"(?:[T ,]+{_TIME})?",
    re.IGNORECASE,
)

Class: TypeAlias = bool | int | str
Series: TypeAlias = "pd.Series[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What became of one column."""

    name: str
    #: None when it was left out
    feature: FeatureSettings | None
    #: what was seen, or why it was left out
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What a file says about a model."""

    task: Task
    target: str
    #: () for a regression
    classes: tuple[Class, ...]
    columns: tuple[Column, ...]

    @property
    def features(self) -> dict[str, FeatureSettings]:
        """The schema, in the order of the file."""
        return {column.name: column.feature for column in self.columns if column.feature is not None}


def infer(path: Path, target: str, task: Task | None = None) -> Inferred:
    """Return the schema that the file suggests; `task` overrules the rule for it.

    Raises Misconfigured when the file cannot be read, lacks the target, or its labels do not fit the task.
    """
    frame = read(path, most_rows=MOST_ROWS)
    if target not in frame.columns:
        raise Misconfigured(f"{path}: no column {target!r}; expected one of {', '.join(map(str, frame.columns))}")
    labels = frame[target].dropna()
    try:
        _check_target(labels)
    except ValueError as error:
        raise Misconfigured(f"{path}: column {target!r}: {error}") from error
    task = task or _task(labels)
    columns = tuple(_column(str(name), frame[name]) for name in frame.columns if name != target)
    if not any(column.feature for column in columns):
        reasons = "".join(f"\n  {column.name} was {column.remark}" for column in columns)
        raise Misconfigured(f"{path}: no column beside {target!r} can be a feature{reasons}")
    try:
        classes = () if task is Task.REGRESSION else _classes(labels, task)
        _check_numbers(labels, task)
    except ValueError as error:
        raise Misconfigured(f"{path}: column {target!r}: {error}") from error
    return Inferred(task=task, target=target, classes=classes, columns=columns)


def resolve(model: ModelSettings) -> ModelSettings:
    """Return the model with features and classes filled in from its data file, where it does not give them.

    Raises Misconfigured when something is missing and there is no data file to take it from.
    """
    lacks_classes = model.classes is None and model.task is not Task.REGRESSION
    if model.features and not lacks_classes:
        return model
    if model.data is None:
        missing = "classes" if model.features else "features"
        raise Misconfigured(f"{missing}: expected them to be set, or data to name a file to infer them from")
    inferred = infer(model.data, model.target, model.task)
    classes = inferred.classes if lacks_classes else model.classes
    return model.model_copy(update={"features": model.features or inferred.features, "classes": classes})


def _task(labels: Series) -> Task:
    distinct = labels.nunique()
    if distinct == BINARY_CLASSES and (not types.is_float_dtype(labels) or _are_whole(labels)):
        return Task.BINARY
    if not types.is_numeric_dtype(labels) or types.is_bool_dtype(labels):
        return Task.MULTICLASS
    return Task.MULTICLASS if distinct <= MOST_NUMBERED_CLASSES and _are_whole(labels) else Task.REGRESSION


def _are_whole(numbers: Series) -> bool:
    return bool((numbers % 1 == 0).all())


def _classes(labels: Series, task: Task) -> tuple[Class, ...]:
    """Return the labels in rising order, so that of two numbers or words the greater is the positive one."""
    if types.is_float_dtype(labels) and not _are_whole(labels):
        raise ValueError("expected whole numbers, text or booleans as classes, got fractions")
    distinct = [_class(label) for label in labels.unique()]
    if len({type(label) for label in distinct}) > 1:
        raise ValueError(f"expected classes of one type, got {distinct[:10]}")
    if len(distinct) < BINARY_CLASSES:
        raise ValueError(f"expected at least two classes, got {distinct}")
    if task is Task.BINARY and len(distinct) != BINARY_CLASSES:
        raise ValueError(f"expected two classes for a binary task, got {len(distinct)}")
    if len(distinct) > MOST_CLASSES:
        raise ValueError(f"expected at most {MOST_CLASSES} classes, got {len(distinct)}")
    if not _recur(labels, len(distinct)):
        raise ValueError(
            f"expected classes that come again, got {len(distinct)} different ones in {len(labels)} rows: "
            "they name the row, or are free text"
        )
    return tuple(sorted(distinct))


def _recur(labels: Series, distinct: int) -> bool:
    """Return whether there are fewer labels than rows, as far as so many rows can tell."""
    few = len(labels) < LEAST_NAMED_ROWS or (types.is_numeric_dtype(labels) and distinct <= MOST_NUMBERED_CLASSES)
    return few or distinct <= MOST_DISTINCT * len(labels)


def _class(label: Any) -> Class:  # noqa: ANN401 - whatever a cell holds
    if isinstance(label, str):
        return label
    return bool(label) if types.is_bool(label) else int(label)


def _check_target(labels: Series) -> None:
    """Raise ValueError for values of which nothing can be learned, whatever the task."""
    if types.is_numeric_dtype(labels):
        return
    if not labels.map(lambda value: isinstance(value, str) or types.is_number(value) or types.is_bool(value)).all():
        raise ValueError("dates and nested values cannot be a target, expected numbers, text or booleans")
    texts = labels.astype(str)
    if _are_dates(texts):
        raise ValueError(f"dates such as {texts.iloc[0]!r} cannot be a target, expected numbers, text or booleans")
    if texts.str.len().max() > LONGEST_CATEGORY:
        raise ValueError(f"text longer than {LONGEST_CATEGORY} characters cannot be a target")


def _are_dates(texts: Series) -> bool:
    return not texts.empty and bool(texts.drop_duplicates().map(str.strip).str.fullmatch(_DATE).all())


def _check_numbers(labels: Series, task: Task) -> None:
    if task is Task.REGRESSION and (not types.is_numeric_dtype(labels) or types.is_bool_dtype(labels)):
        raise ValueError("expected numbers for a regression")


def _column(name: str, values: Series) -> Column:
    known = values.dropna()
    if known.empty:
        return Column(name=name, feature=None, remark="left out: no row has a value")
    if types.is_numeric_dtype(known) and not types.is_bool_dtype(known):
        return _number(name, known, required=len(known) == len(values))
    if not known.map(lambda value: isinstance(value, str | bool)).all():
        return Column(name=name, feature=None, remark="left out: neither numbers nor categories")
    return _category(name, known.astype(str), required=len(known) == len(values))


def _number(name: str, known: Series, *, required: bool) -> Column:
    low, high = known.min(), known.max()
    if max(-low, high) > LARGEST:
        return Column(name=name, feature=None, remark=f"left out: numbers beyond {LARGEST:g} are not accepted")
    feature = FeatureSettings(type="number", required=required)
    return Column(name=name, feature=feature, remark=f"{low:g} to {high:g}")


def _category(name: str, known: Series, *, required: bool) -> Column:
    distinct = known.nunique()
    if _are_dates(known):
        return Column(name=name, feature=None, remark="left out: dates")
    if known.str.len().max() > LONGEST_CATEGORY:
        return Column(name=name, feature=None, remark=f"left out: text longer than {LONGEST_CATEGORY} characters")
    if distinct == len(known) >= LEAST_NAMED_ROWS:
        return Column(name=name, feature=None, remark="left out: differs in every row, so it names the row")
    feature = FeatureSettings(type="category", required=required)
    return Column(name=name, feature=feature, remark=f"{distinct} categories")
