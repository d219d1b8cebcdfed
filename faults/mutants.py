"""`python -m faults.mutants MUTANT [POINT:N] COMMAND…`: stream-app with one promise broken, to test the suite itself.

A suite that passes these would pass anything. With POINT:N the mutant also falls asleep there, see `faults.sleeper`.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from faults.sleeper import fall_asleep_at


def position_before_commit() -> None:
    """Store the position when records arrive, as consumers do that commit offsets on poll."""
    from stream_app.storage import ownership  # noqa: PLC0415 - after the crash points were replaced
    from stream_app.storage.database import writing  # noqa: PLC0415 - the same
    from stream_app.worker.owner import ModelOwner  # noqa: PLC0415 - the same

    honest = ModelOwner.take

    async def take(self: Any, batch: Any, ticket: Any, bury: Any) -> int:  # noqa: ANN401 - as the honest one
        with writing(self._hands.stores.log.engine) as connection:
            ownership.move_positions(connection, self.model, {batch.partition: int(batch.offsets[-1]) + 1})
        return await honest(self, batch, ticket, bury)

    ModelOwner.take = take  # type: ignore[method-assign] # that is the mutation


def no_epoch_check() -> None:
    """Append wherever the log ends now, as a writer does that opens the table afresh for each write and tries again."""
    from sqlalchemy import select, update  # noqa: PLC0415 - after the crash points were replaced

    from stream_app.errors import Fenced  # noqa: PLC0415 - the same
    from stream_app.storage import ownership  # noqa: PLC0415 - the same
    from stream_app.storage.partition_log import SqlPartitionLog  # noqa: PLC0415 - the same
    from stream_app.storage.tables import models  # noqa: PLC0415 - the same
    from stream_app.storage.window_log import SqlWindowLog  # noqa: PLC0415 - the same

    honest, honest_advance = SqlWindowLog.commit, SqlPartitionLog.advance

    def move_on(connection: Any, model: str, _: int, values: Any, *also: Any) -> Any:  # noqa: ANN401 - as the honest one
        query = update(models).where(models.c.name == model, *also).values(values)
        return connection.execute(query.returning(models)).mappings().first()

    def commit(self: Any, window: Any) -> None:  # noqa: ANN401 - as the honest one
        while True:
            with self.engine.connect() as connection:
                end = connection.execute(select(models.c.seq).where(models.c.name == window.header.model)).scalar()
            with contextlib.suppress(Fenced):  # somebody else was faster: try again behind them
                return honest(self, replace(window, header=replace(window.header, seq=end + 1)))

    def advance(self: Any, partition: Any, **given: Any) -> None:  # noqa: ANN401 - as the honest one
        with contextlib.suppress(Fenced):
            honest_advance(self, partition, **given)

    SqlPartitionLog.advance = advance  # type: ignore[method-assign] # that is the mutation
    ownership.move_on = move_on  # type: ignore[assignment] # that is the mutation
    SqlWindowLog.commit = commit  # type: ignore[method-assign] # that is the mutation


MUTANTS: Final[Mapping[str, Callable[[], None]]] = {
    "position-before-commit": position_before_commit,
    "no-epoch-check": no_epoch_check,
}


def main() -> None:
    """Break what the first argument names, then run the command that the others name."""
    mutant, *arguments = sys.argv[1:]
    if ":" in arguments[0]:
        name, _, count = arguments.pop(0).partition(":")
        fall_asleep_at(name, int(count))
    MUTANTS[mutant]()
    from stream_app.cli import main as command  # noqa: PLC0415 - it must see what was broken

    command(arguments)


if __name__ == "__main__":
    main()
