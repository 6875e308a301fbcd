"""Tools that behave, and tools that do not."""

import ctypes
import os
import subprocess
import sys
import time

from tomas_router.profiling import ProfiledTool

MIB = 2**20
LEAVES_A_CHILD = "import time; time.sleep(600)  # left-behind"


def count(n: int) -> int:
    """Adds the numbers below n."""
    print("tools may print")
    return sum(range(n))


def wait(seconds: float) -> None:
    """Waits."""
    time.sleep(seconds)


def take_memory(mib: int) -> int:
    """Touches memory."""
    return len(bytearray(mib * MIB))


def take_memory_in_a_child(mib: int) -> None:
    """Touches memory in a child."""
    subprocess.run([sys.executable, "-c", f"import time; b = bytearray({mib * MIB}); time.sleep(0.2)"], check=True)


def take_memory_for_ever() -> None:
    """Touches more and more memory."""
    kept = []
    while True:
        kept.append(bytearray(20 * MIB))
        time.sleep(0.02)


def take_too_much_at_once() -> bytearray:
    """Asks for a petabyte."""
    return bytearray(2**50)


def crash() -> None:
    """Reads address 0."""
    ctypes.string_at(0)


def leave() -> None:
    """Ends the process as if all were well."""
    os._exit(0)


def refuse() -> None:
    """Raises."""
    raise ValueError("no such thing")


def hang_in_a_child() -> None:
    """Waits for a child that never ends."""
    subprocess.run([sys.executable, "-c", LEAVES_A_CHILD], check=True)


def consume(items: list) -> None:
    """Empties its input, and minds when it is empty already."""
    if not items:
        raise ValueError("the input was used before")
    items.clear()


def expect_limits(cores: int) -> None:
    """Fails unless the process is held to so many cores and sees no GPU."""
    assert len(os.sched_getaffinity(0)) == cores
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == str(cores)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def make_much_input() -> dict:
    """A small input that takes much memory to make."""
    bytearray(300 * MIB)
    return {"n": 1000}


async def count_later(n: int) -> int:
    """Adds numbers in a coroutine."""
    return sum(range(n))


def multiply_on_gpu(gib: int) -> float:
    """Fills memory of the GPU and multiplies there."""
    import torch

    data = torch.ones(gib * 2**28, device="cuda")  # four bytes each
    matrix = data[: 4096 * 4096].reshape(4096, 4096)
    return float((matrix @ matrix).sum())


def count_gpus(expected: int) -> None:
    """Fails unless so many GPUs are visible."""
    import torch

    assert torch.cuda.device_count() == expected


gpu_tools = [
    ProfiledTool(multiply_on_gpu, {"large": {"gib": 2}}),
    ProfiledTool(count_gpus, {"small": {"expected": 0}}),
]

tools = [
    ProfiledTool(count, {"small": {"n": 1000}, "large": lambda: {"n": 100_000}}),
    ProfiledTool(wait, {"small": {"seconds": 0.05}, "large": {"seconds": 600}}),
    ProfiledTool(take_memory, {"small": {"mib": 10}, "large": {"mib": 200}}),
    ProfiledTool(take_memory_in_a_child, {"large": {"mib": 200}}),
    ProfiledTool(take_memory_for_ever, {"small": {}}),
    ProfiledTool(take_too_much_at_once, {"small": {}}),
    ProfiledTool(crash, {"small": {}}),
    ProfiledTool(leave, {"small": {}}),
    ProfiledTool(refuse, {"small": {}}),
    ProfiledTool(hang_in_a_child, {"small": {}}),
    ProfiledTool(consume, {"small": lambda: {"items": [1]}}),
    ProfiledTool(expect_limits, {"small": {"cores": 1}, "medium": {"cores": 2}}),
    ProfiledTool(count, {"small": make_much_input}, name="count_of_much"),
    ProfiledTool(count_later, {"small": {"n": 10}}),
    ProfiledTool(count, {"small": lambda: 7}, name="count_without_names"),
]
