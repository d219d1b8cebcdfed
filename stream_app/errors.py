"""Errors by reaction: the class of an error says what its catcher does next."""


class StreamAppError(Exception):
    """Something went wrong in stream_app."""

    def __init__(self, message: str | None = None) -> None:
        """Use the class's docstring when there is nothing more to say."""
        super().__init__(message or type(self).__doc__)


class InvalidRecord(StreamAppError):  # noqa: N818 - named for what it is, not for being an error
    """The record can never be processed: send it to the dead-letter topic and go on."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is a word from a closed set (it becomes a metric label), `message` is for people."""
        super().__init__(message)
        self.reason = reason


class Outage(StreamAppError):  # noqa: N818
    """A broker, database or store is away: retry with backoff, then stop with exit code 75."""


class Fenced(StreamAppError):  # noqa: N818
    """Another worker owns the model now: write nothing more and leave with exit code 70."""


class Misconfigured(StreamAppError):  # noqa: N818
    """A setting is wrong: say which and what was expected, and leave with exit code 78."""


class WrongArgument(StreamAppError):  # noqa: N818
    """A file or a name on the command line will not do: say which and what was expected; exit code 2."""


class Corrupt(StreamAppError):  # noqa: N818
    """Stored bytes do not match their digest or signature: never load them, use the next older ones."""


class NotFound(StreamAppError):  # noqa: N818
    """What was asked for by name does not exist."""


class Conflict(StreamAppError):  # noqa: N818
    """What was asked for collides with what already is; nothing was changed."""


class TooManyBadRecords(StreamAppError):  # noqa: N818
    """Most of the newest records are bad: stop until a person raises the limit, and leave with exit code 78.

    Going on, now or after a restart, would drain the stream into the dead letters.
    """
