"""Acknowledging runs in offset order, each once everything in it is durable."""

from collections import deque
from collections.abc import Awaitable, Callable

Done = Callable[[], Awaitable[None]]


class Ticket:
    """One run, waiting for the windows that hold its records."""

    def __init__(self, done: Done) -> None:
        self.done = done
        #: windows still to be made durable, and one for the run not being taken in whole yet
        self.waiting = 1


class Line:
    """The runs of one partition, in order: a run is acknowledged only after all before it."""

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()

    def open(self, done: Done) -> Ticket:
        """Return the ticket of the next run."""
        ticket = Ticket(done)
        self._tickets.append(ticket)
        return ticket

    async def settle(self, ticket: Ticket) -> None:
        """One thing that the ticket waited for is durable; acknowledge what can be."""
        ticket.waiting -= 1
        while self._tickets and self._tickets[0].waiting == 0:
            await self._tickets.popleft().done()
