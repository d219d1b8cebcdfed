"""What the kernel does for us in the process of a retrain: hold its memory down."""

import resource
from typing import Final

#: With less address space left than this, an error is taken for a lack of memory: loading one shared library needs
#: as much, and what fails then has many names.
_NEXT_TO_NOTHING: Final = 128_000_000


def limit_memory(megabytes: int) -> None:
    """Let allocations fail beyond so much memory, for this process and each that it starts.

    The kernel limits address space only. What was reserved by now and is not resident (some 300 MB of mapped
    libraries) is added to the limit. A retrain needs about 500 MB before its first row.
    """
    size, resident = _address_space()
    limit = megabytes * 1_000_000 + size - resident
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an error came from a failed allocation, by whatever name it arrives."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return True
        cause = cause.__cause__ or cause.__context__
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit != resource.RLIM_INFINITY and limit - _address_space()[0] < _NEXT_TO_NOTHING


def _address_space() -> tuple[int, int]:
    """Return the bytes that are reserved, and those that are resident."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
        size, resident = file.read().split()[:2]
    return int(size) * resource.getpagesize(), int(resident) * resource.getpagesize()
