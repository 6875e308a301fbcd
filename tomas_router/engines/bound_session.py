"""An ONNX Runtime session whose inputs and outputs are torch tensors where they lie: on the GPU nothing is copied.

Optimum's own binding stops at bfloat16, which NumPy lacks; here types go by ONNX's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from onnxruntime.transformers.io_binding_helper import TypeHelper
from torch import Tensor

from tomas_router.engines.onnx_engine import PROVIDERS, Provider, import_onnxruntime
from tomas_router.errors import MissingExtraError, ModelArtifactError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Place:
    """Where an engine computes."""

    provider: Provider
    device: torch.device
    stream: Any = None  # torch.cuda.Stream; ONNX Runtime and torch share it, so neither waits for the other

    @classmethod
    def of(cls, provider: Provider) -> Place:
        """The processor, or the current CUDA device with a stream of its own.

        Raises:
            MissingExtraError: ONNX Runtime or torch lacks CUDA.
        """
        runtime = import_onnxruntime(provider)
        if provider == "cpu":
            return cls(provider, torch.device("cpu"))
        if not torch.cuda.is_available():
            raise MissingExtraError("provider 'cuda' needs a torch with CUDA and a device that it can see")
        if hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()  # the CUDA libraries that came as Python packages
        device = torch.device("cuda", torch.cuda.current_device())
        stream: Any = torch.cuda.Stream
        return cls(provider, device, stream(device))

    def providers(self, *, cuda_graph: bool) -> list[Any]:
        """As ``InferenceSession`` takes them."""
        if self.provider == "cpu":
            return list(PROVIDERS["cpu"])
        options = {
            "device_id": str(self.device.index),
            "user_compute_stream": str(self.stream.cuda_stream),
            "enable_cuda_graph": "1" if cuda_graph else "0",
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",  # only heads are float32, and they are small: as exact as on a processor
        }
        return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


class BoundSession:
    """One graph."""

    def __init__(
        self, path: Path, place: Place, *, threads: int = 1, cuda_graph: bool = False, model: bytes | None = None
    ) -> None:
        """Loads a graph.

        Args:
            path: The file; its folder is where external data lies.
            place: Where to compute.
            threads: Of the processor, for one operator.
            cuda_graph: Record the kernels of each ``graph_id`` at its first run and replay them afterwards.
            model: The serialised graph, in place of the file's content.

        Raises:
            ModelArtifactError: ONNX Runtime refuses the graph; names the file.
        """
        runtime = import_onnxruntime(place.provider)
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if model is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        options.log_severity_level = 3
        providers = place.providers(cuda_graph=cuda_graph)
        try:
            self.session = runtime.InferenceSession(model or str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise ModelArtifactError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
        if model is not None:
            self.session._model_path = str(path)  # Optimum asks for it
        self.place, self.cuda_graph, self._runtime = place, cuda_graph, runtime
        self.types = {value.name: value.type for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.outputs = tuple(value.name for value in self.session.get_outputs())

    def dtype(self, name: str) -> torch.dtype:
        """Of an input or output."""
        dtype: torch.dtype = TypeHelper.ort_type_to_torch_type(self.types[name])
        return dtype

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], graph_id: int = -1) -> None:
        """Computes into the given tensors; on a GPU it returns before they are filled.

        Args:
            inputs: Contiguous, on the session's device, of the graph's types.
            outputs: Likewise; those left out are not fetched.
            graph_id: Names a recording; tensors must then be the same at every run. -1: nothing is recorded.
        """
        binding = self.bind(inputs, outputs)
        self.run_bound(binding, graph_id)

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Any:
        """A binding that can be run many times."""
        binding = self.session.io_binding()
        for method, tensors in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, tensor in tensors.items():
                self._check(name, tensor)
                method(
                    name,
                    self.place.device.type,
                    self.place.device.index or 0,
                    TypeHelper.ort_type_to_onnx_type(self.types[name]),
                    list(tensor.shape),
                    tensor.data_ptr() or _SOME_ADDRESS.data_ptr(),
                )
        return binding

    def run_bound(self, binding: Any, graph_id: int = -1) -> None:
        """Runs what ``bind`` made."""
        options = self._runtime.RunOptions()
        if self.place.provider == "cuda":
            options.add_run_config_entry("gpu_graph_id", str(graph_id))
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.session.run_with_iobinding(binding, options)

    def _check(self, name: str, tensor: Tensor) -> None:
        if not tensor.is_contiguous() or tensor.dtype != self.dtype(name) or tensor.device != self.place.device:
            raise ValueError(
                f"{name} must be contiguous {self.types[name]} on {self.place.device}, "
                f"got {tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
            )


_SOME_ADDRESS = torch.zeros(1)
"""An empty tensor has no address, and ONNX Runtime wants one."""
