from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

threadpoolctl = pytest.importorskip("threadpoolctl")

from tomas_router.executors.limits import limit_environment, thread_limits
from tomas_router.schema.profiling import ResourceConfig


def config(cpu_core=2.0, gpu_sm=0.0, gpu_mem_gb=0.0):
    return ResourceConfig(cpu_core=cpu_core, cpu_mem_gb=1, gpu_sm=gpu_sm, gpu_mem_gb=gpu_mem_gb)


def test_environment_when_there_is_no_gpu_limits_threads_and_hides_gpus():
    variables = limit_environment(config(cpu_core=2.5))
    assert (variables["OMP_NUM_THREADS"], variables["OPENBLAS_NUM_THREADS"]) == ("3", "3")
    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    assert not any(name.startswith("CUDA_MPS") for name in variables)


def test_environment_when_there_is_a_gpu_has_both_limits_of_mps():
    variables = limit_environment(config(gpu_sm=12.3, gpu_mem_gb=1.5))
    assert variables["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "13"
    assert variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=1536M"
    assert "CUDA_VISIBLE_DEVICES" not in variables


def test_environment_when_less_than_a_core_is_given_leaves_one_thread():
    assert limit_environment(config(cpu_core=0.1))["OMP_NUM_THREADS"] == "1"


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))  # loads it
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def four_threads():
    blas_threads()
    with ThreadPoolExecutor(1) as elsewhere:  # whoever limits OpenBLAS controls it while their thread lives
        before = elsewhere.submit(threadpoolctl.threadpool_limits, 4).result()
    yield
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(before.restore_original_limits).result()


def test_threads_when_limited_are_fewer_inside_and_as_before_after(four_threads):
    with thread_limits(2):
        assert blas_threads() == {2}
    assert blas_threads() == {4}


def test_threads_when_two_limits_hold_follow_the_smallest_until_the_last_one_ends(four_threads):
    entered, leave = threading.Event(), threading.Event()

    def other():
        with thread_limits(1):
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with thread_limits(3):
        thread.start()
        entered.wait(20)
        assert blas_threads() == {1}
        leave.set()
        thread.join()
        assert blas_threads() == {3}
    assert blas_threads() == {4}


def test_threads_when_the_limit_is_larger_are_not_raised(four_threads):
    with thread_limits(64):
        assert blas_threads() == {4}
