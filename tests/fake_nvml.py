"""NVML of a machine with two GPUs, for machines without any."""

# ruff: noqa: N802  (the names are those of NVML)

from types import SimpleNamespace

GIB = 2**30


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self, lists_processes: bool = True) -> None:
        self.used = [5 * GIB, 0]
        self.held = {41: 0}
        self.lists_processes = lists_processes

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        if index > 1:
            raise self.NVMLError
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"GPU-a": 0, "GPU-b": 1}[uuid]

    def nvmlDeviceGetName(self, handle):
        return b"Model A" if handle == 0 else "Model B"

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=self.used[handle], free=80 * GIB - self.used[handle])

    def nvmlDeviceGetNumGpuCores(self, handle):
        return 16896 if handle == 0 else 1000

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return (9, 0) if handle == 0 else (99, 0)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=30 if handle == 0 else 0)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        listed = self.held.items() if self.lists_processes else ()
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in listed]
