"""Whether an error says that memory ran out, on the machine or on its GPU."""

from __future__ import annotations

from collections.abc import Iterator

NAMES = frozenset({"OutOfMemoryError"})
"""Of torch, CuPy and Ray; none of them needs to be imported to be recognised."""
WORDS = ("CUDA out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "RESOURCE_EXHAUSTED: Out of memory", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Looks at its type, its bases, its message, and at what it was raised from."""
    return any(_says_so(part) for part in _chain(error))


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or any(base.__name__ in NAMES for base in type(error).__mro__):
        return True
    text = str(error)
    return any(words in text for words in WORDS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__
