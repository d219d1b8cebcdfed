"""Runs are acknowledged in offset order, each once everything in it is durable."""

from stream_app.core.limits import BadShare
from stream_app.worker.tickets import Line


async def test_a_later_run_waits_for_an_earlier_one() -> None:
    acknowledged: list[str] = []

    def named(name: str):  # noqa: ANN202 - a coroutine function
        async def done() -> None:
            acknowledged.append(name)

        return done

    line = Line()
    first, second = line.open(named("first")), line.open(named("second"))
    first.waiting += 1
    await line.settle(second)
    await line.settle(first)
    assert acknowledged == []
    await line.settle(first)
    assert acknowledged == ["first", "second"]


def test_a_few_bad_records_pass_and_a_broken_stream_does_not() -> None:
    share = BadShare(0.5, 100)
    assert all(share.add(10, 1) is None for _ in range(50))
    verdicts = [share.add(10, 10) for _ in range(10)]
    assert verdicts[-1] == 1.0
    assert verdicts[0] is None


def test_the_limit_needs_enough_records_to_judge() -> None:
    share = BadShare(0.5, 100)
    assert share.add(99, 99) is None
    assert share.add(1, 1) == 1.0
