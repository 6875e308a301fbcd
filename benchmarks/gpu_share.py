"""Holds CUDA work to a share of a GPU's SMs: CUDA MPS for whole processes, or green contexts inside one.

MPS: ``nvidia-cuda-mps-control`` serves clients, and each client's ``CUDA_MPS_ACTIVE_THREAD_PERCENTAGE`` is read when
its process makes a CUDA context, so a share is for the life of a process. Green contexts (driver API, CUDA 12.4 and
later) give a stream a set of SMs, in groups of eight on Hopper, and one process may hold several.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MPS_PROBE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
def must(code):
    assert code == 0, code
device, context = ctypes.c_int(), ctypes.c_void_p()
must(cuda.cuInit(0))
must(cuda.cuDeviceGet(ctypes.byref(device), 0))
must(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
"""


class MpsUnavailableError(RuntimeError):
    """The control daemon cannot be started, or clients get no context through it."""


class MpsServer:
    """The control daemon in folders of its own, so that no other daemon of this host is touched."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mps-"))
        self._environment = {
            "CUDA_MPS_PIPE_DIRECTORY": str(self._folder / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(self._folder / "log"),
        }
        for folder in self._environment.values():
            Path(folder).mkdir()

    def start(self) -> None:
        """Starts the daemon and makes one client's context.

        Raises:
            MpsUnavailableError: Says what did not work, with the end of the server's log.
        """
        control = shutil.which("nvidia-cuda-mps-control")
        if control is None:
            raise MpsUnavailableError("there is no nvidia-cuda-mps-control on the path")
        environment = os.environ | self._environment
        try:
            with (self._folder / "said").open("w") as said:  # a pipe would stay open as long as the daemon runs
                started = subprocess.run([control, "-d"], env=environment, stdout=said, stderr=said, timeout=20)
            if started.returncode != 0:
                reason = (self._folder / "said").read_text(errors="replace").strip()
                raise MpsUnavailableError(f"the daemon did not start: {reason}")
            probe = [sys.executable, "-c", MPS_PROBE]
            client = subprocess.run(
                probe, env=environment | self.client(50), capture_output=True, text=True, timeout=40
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise MpsUnavailableError(f"{error}; {self._log()}") from error
        if client.returncode != 0:
            raise MpsUnavailableError(f"a client got no context: {client.stderr.strip()[-200:]}; {self._log()}")

    def client(self, percent: float) -> dict[str, str]:
        """Environment of a process that may use so much of the GPU."""
        return self._environment | {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{percent:g}"}

    def stop(self) -> None:
        """Ends the daemon that this object started."""
        control = shutil.which("nvidia-cuda-mps-control")
        if control is not None:
            try:
                subprocess.run(
                    [control], input="quit\n", env=os.environ | self._environment, capture_output=True, text=True,
                    timeout=20,
                )  # fmt: skip
            except (subprocess.TimeoutExpired, OSError) as error:
                print(f"the MPS daemon did not stop: {error}", flush=True)
        time.sleep(0.5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _log(self) -> str:
        lines = [
            line
            for name in ("control.log", "server.log")
            if (self._folder / "log" / name).exists()
            for line in (self._folder / "log" / name).read_text(errors="replace").splitlines()[-3:]
        ]
        return f"log: {' | '.join(lines)}"


def seen_sm_count() -> int:
    """SMs that CUDA shows this process; an MPS client with a share may see only that."""
    import torch

    return int(torch.cuda.get_device_properties(0).multi_processor_count)


@contextmanager
def green_share(percent: float) -> Iterator[int]:
    """Runs what torch launches inside on about this share of the SMs; gives their number.

    SMs come in groups, so the number is the nearest one that the device can split off.

    Raises:
        RuntimeError: Neither cuda-bindings nor torch can make a green context here.
    """
    import torch

    total = seen_sm_count()
    if percent >= 100:
        yield total
        return
    wanted = max(round(percent / 100 * total / 8) * 8, 8)
    try:
        stream, sm_count = _green_stream(wanted)
    except (ImportError, AttributeError, RuntimeError) as error:
        print(f"no green context by cuda-bindings ({error}); torch's own is tried", flush=True)
    else:
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            yield sm_count
            stream.synchronize()
        return
    from torch.cuda.green_contexts import GreenContext

    context = GreenContext.create(num_sms=wanted, device_id=0)
    torch.cuda.synchronize()
    context.set_context()
    try:
        yield wanted
    finally:
        torch.cuda.current_stream().synchronize()
        context.pop_context()


_made: dict[int, tuple[object, int]] = {}


def _green_stream(sm_count: int):
    """A stream whose kernels run on at least so many SMs, and how many they are; made once a process."""
    if sm_count in _made:
        return _made[sm_count]
    import torch
    from cuda.bindings import driver

    torch.cuda.current_stream().synchronize()  # the primary context is there
    device = _did(driver.cuDeviceGet(0))
    whole = _did(driver.cuDeviceGetDevResource(device, driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM))
    groups, _, _ = _did(driver.cuDevSmResourceSplitByCount(1, whole, 0, sm_count))
    description = _did(driver.cuDevResourceGenerateDesc([groups[0]], 1))
    flags = driver.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM
    context = _did(driver.cuGreenCtxCreate(description, device, int(flags)))
    handle = _did(driver.cuGreenCtxStreamCreate(context, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING), 0))
    _made[sm_count] = torch.cuda.ExternalStream(int(handle)), int(groups[0].sm.smCount)
    _kept.append(context)
    return _made[sm_count]


_kept: list[object] = []
"""Green contexts live as long as the process."""


def _did(answer):
    """What a driver call gave.

    Raises:
        RuntimeError: It failed.
    """
    code, *values = answer
    if int(code) != 0:
        raise RuntimeError(f"{code!r}")
    return values[0] if len(values) == 1 else values
