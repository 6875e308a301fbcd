"""A resource configuration as what libraries obey: environment variables for processes, thread counts in this one.

None of it is a fence. ``docs/langgraph.md`` says what holds and what does not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from tomas_router.profiling.limits import LIBRARY_THREAD_VARIABLES
from tomas_router.schema.profiling import ResourceConfig

THREAD_VARIABLES = (*LIBRARY_THREAD_VARIABLES, "NUMBA_NUM_THREADS")
MPS_SHARE, MPS_MEMORY = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"


def thread_count(config: ResourceConfig) -> int:
    """Whole threads; at least one, because something has to run."""
    return max(1, ceil(config.cpu_core))


def limit_environment(config: ResourceConfig) -> dict[str, str]:
    """Variables for a process that is started with a configuration.

    Thread pools of BLAS, OpenMP and the like get its cores. With a share of a GPU: the two limits of NVIDIA's MPS,
    which hold where its daemon runs. Without one: no GPU is visible.
    """
    variables = dict.fromkeys(THREAD_VARIABLES, str(thread_count(config)))
    if config.gpu_sm > 0 or config.gpu_mem_gb > 0:
        if config.gpu_sm > 0:
            variables[MPS_SHARE] = str(min(100, ceil(config.gpu_sm)))
        if config.gpu_mem_gb > 0:
            variables[MPS_MEMORY] = f"0={ceil(config.gpu_mem_gb * 1024)}M"
    else:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


@contextmanager
def thread_limits(threads: int) -> Iterator[None]:
    """Limits the OpenMP and BLAS pools that work inside may use; nothing happens without ``threadpoolctl``.

    OpenMP is limited for the calling thread. BLAS libraries have one number for the process, so while several limits
    hold at once the smallest one counts, and the number from before comes back with the end of the last one.
    """
    token = object()
    _limits.enter(token, threads)
    try:
        yield
    finally:
        _limits.leave(token)


class _Limits:
    """The limits that hold now in this process. A library is never given more threads than it had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[object, int] = {}
        self._own: dict[object, list[tuple[Any, int]]] = {}
        """Pools that each thread has for itself, with their numbers from before."""
        self._shared: dict[str, tuple[Any, int]] = {}
        """By file: a library with one pool, and its number from before."""

    def enter(self, token: object, threads: int) -> None:
        pools = _pools()
        if pools is None:
            return
        with self._lock:
            self._asked[token] = threads
            self._own[token] = [(pool, pool.get_num_threads()) for pool in pools if _is_of_a_thread(pool)]
            for pool, before in self._own[token]:
                pool.set_num_threads(min(before, threads))
            for pool in pools:
                if not _is_of_a_thread(pool):
                    self._shared.setdefault(pool.filepath, (pool, pool.get_num_threads()))
            self._limit_shared()

    def leave(self, token: object) -> None:
        with self._lock:
            if self._asked.pop(token, None) is None:
                return
            for pool, before in self._own.pop(token):
                pool.set_num_threads(before)
            self._limit_shared()

    def _limit_shared(self) -> None:
        """From a thread that ends at once: threadpoolctl lets only one living thread change OpenBLAS."""
        if self._shared:
            worker = threading.Thread(target=self._set_shared)
            worker.start()
            worker.join()
        if not self._asked:
            self._shared.clear()

    def _set_shared(self) -> None:
        for pool, before in self._shared.values():
            pool.set_num_threads(min(before, *self._asked.values()) if self._asked else before)


_limits = _Limits()


def _is_of_a_thread(pool: Any) -> bool:
    return pool.user_api == "openmp" or getattr(pool, "threading_layer", None) == "openmp"


def _pools() -> list[Any] | None:
    """Thread pools of the libraries that are loaded; None when nobody can say."""
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return None
    return list(ThreadpoolController().lib_controllers)
