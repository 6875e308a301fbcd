"""Leaves out configurations that take more and give nothing.

The allocator prefers the earliest end. Between 432 ms on one core and 431 ms on two, which is noise, it would take the
second core away from everyone else. So a configuration is worth a row only if it is faster than every cheaper one by
more than noise, or saves memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from tomas_router.schema.profiling import ProfileRow


def worth_a_row(rows: Sequence[ProfileRow], min_gain: float) -> list[ProfileRow]:
    """The rows to keep, in order.

    Args:
        rows: of any tools and sizes.
        min_gain: a row is dropped when a row that is kept, of the same tool and size, takes no more cores and no more
            of the GPU, and less of one of them, and needs no more than this share of additional time and memory.
    """
    kept: list[ProfileRow] = []
    for row in sorted(rows, key=lambda row: (row.cpu_core, row.gpu_sm)):  # what makes a row needless comes before it
        if not any(_makes_needless(cheap, row, 1 + min_gain) for cheap in kept):
            kept.append(row)
    return [row for row in rows if row in kept]


def _makes_needless(cheap: ProfileRow, row: ProfileRow, slack: float) -> bool:
    return (
        (cheap.tool, cheap.input_size) == (row.tool, row.input_size)
        and cheap.cpu_core <= row.cpu_core
        and cheap.gpu_sm <= row.gpu_sm
        and (cheap.cpu_core, cheap.gpu_sm) != (row.cpu_core, row.gpu_sm)
        and cheap.latency_ms <= row.latency_ms * slack
        and cheap.cpu_mem_gb <= row.cpu_mem_gb * slack
        and cheap.gpu_mem_gb <= row.gpu_mem_gb * slack
    )
