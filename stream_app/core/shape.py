"""What learners must know of a schema."""

from dataclasses import dataclass

from stream_app.values import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The task, the columns in order and the classes."""

    task: Task
    #: names of the numeric columns, in order; previous-label columns come last, if any
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    #: () for regression; for binary: (negative, positive)
    classes: tuple[bool | int | str, ...]
