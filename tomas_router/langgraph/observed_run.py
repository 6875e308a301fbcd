"""What is seen while a tool runs: its span, its memory, and what traces say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from tomas_router.langgraph.trace_metadata import tell_langsmith
from tomas_router.runtime.memory_watch import MEMORY_WATCH, MemoryUse
from tomas_router.runtime.tracing import Attribute, Span, span


@contextmanager
def observed_run(metadata: Mapping[str, Attribute]) -> Iterator[MemoryUse]:
    """Around one run of a tool; what is yielded is final after the block.

    Args:
        metadata: of ``call_metadata``.
    """
    tell_langsmith(metadata)
    with span("tomas.run", metadata) as opened:
        use = MEMORY_WATCH.begin()
        try:
            yield use
        finally:
            MEMORY_WATCH.end(use)
            _tell(opened, use)


@asynccontextmanager
async def aobserved_run(metadata: Mapping[str, Attribute]) -> AsyncIterator[MemoryUse]:
    """``observed_run`` for coroutines; the loop never waits for a look at memory."""
    tell_langsmith(metadata)
    with span("tomas.run", metadata) as opened:
        use = MemoryUse()
        try:
            await asyncio.to_thread(MEMORY_WATCH.begin, use)
            yield use
        finally:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, MEMORY_WATCH.end, use))
            _tell(opened, use)


def _tell(opened: Span, use: MemoryUse) -> None:
    if use.peak_gb is not None:
        seen: dict[str, Attribute] = {"tomas.peak_mem_gb": use.peak_gb, "tomas.alone": use.alone}
        opened.set_attributes(seen)
        tell_langsmith(seen)
