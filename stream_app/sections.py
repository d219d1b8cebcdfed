"""What a section of the settings is: frozen, strict, and able to say what contradicts itself."""

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Final, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from stream_app.messages import NAME_PATTERN

#: Set in the context of a validation by who asks for the contradictions afterwards: pydantic knows of one at most.
LENIENT: Final = "lenient"

#: The keys of a section that do not fit together, and what was expected of them.
Contradiction: TypeAlias = tuple[tuple[str, ...], str]

ModelName = Annotated[str, Field(pattern=NAME_PATTERN)]
#: What Kafka accepts as the name of a topic.
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class Section(BaseModel):
    """Base of every section: frozen, an unknown key is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none_by_name(cls, values: object) -> object:
        """Take "none" for null where null is possible: neither TOML nor a variable can say it otherwise."""
        if not isinstance(values, Mapping):
            return values
        return {key: None if value == "none" and cls._may_be_none(key) else value for key, value in values.items()}

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield what is wrong between the keys of this section, each of which is right by itself."""
        yield from ()

    @model_validator(mode="after")
    def _contradicts_nothing(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get(LENIENT):
            for _, expected in self.contradictions():
                raise ValueError(expected)
        return self

    @classmethod
    def _may_be_none(cls, key: str) -> bool:
        return key in cls.model_fields and NoneType in get_args(cls.model_fields[key].annotation)
