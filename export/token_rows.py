"""The token embedding inside a graph, and the LM head over the same bytes.

W vocabulary, D width, M blocks a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from export.quantize import CONTRIB, INT8_ACTIVATIONS, TOKEN_TABLE_FORMAT, BlockFormat, to_blocks


class PackedRows(nn.Module):
    """One byte a number and a scale a block."""

    packed: Tensor
    scales: Tensor

    def __init__(self, weight_WD: Tensor) -> None:
        super().__init__()
        self.width = int(weight_WD.shape[1])
        self.format = TOKEN_TABLE_FORMAT.fitted(self.width)
        packed_WMB, scales_WM = to_blocks(weight_WD.detach().float().cpu().numpy(), self.format)
        self.register_buffer("packed", torch.from_numpy(packed_WMB.reshape(len(packed_WMB), -1)))
        self.register_buffer("scales", torch.from_numpy(scales_WM))

    def forward(self, ids: Tensor) -> Tensor:
        """(...) to (..., D)."""
        numbers = self.packed[ids].to(torch.float32) - float(self.format.zero_point)
        blocks = numbers.unflatten(-1, (self.scales.shape[1], self.format.block))
        embedded: Tensor = (blocks * self.scales[ids].unsqueeze(-1)).flatten(-2)[..., : self.width]
        return embedded

    def product(self, hidden_1D: Tensor) -> Tensor:
        """(1, D) to logits (1, W)."""
        packed_WMB = self.packed.reshape(len(self.packed), -1, self.format.block)
        logits: Tensor = _PackedProduct.apply(hidden_1D, packed_WMB, self.scales.reshape(-1), self.format)
        return logits

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Stored numbers and scales."""
        return self.packed.numpy(), self.scales.numpy()


class FloatRows(nn.Module):
    """The table as it was trained."""

    table: Tensor

    def __init__(self, weight_WD: Tensor) -> None:
        super().__init__()
        self.width = int(weight_WD.shape[1])
        self.register_buffer("table", weight_WD.detach().float())

    def forward(self, ids: Tensor) -> Tensor:
        """(...) to (..., D)."""
        embedded: Tensor = self.table[ids]
        return embedded

    def product(self, hidden_1D: Tensor) -> Tensor:
        """(1, D) to logits (1, W)."""
        logits: Tensor = _FloatProduct.apply(hidden_1D, self.table)
        return logits

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Stored numbers; no scales."""
        return self.table.cpu().numpy(), None


class _PackedProduct(Function):
    @staticmethod
    def forward(_: Any, hidden_1D: Tensor, packed_WMB: Tensor, scales: Tensor, format_: BlockFormat) -> Tensor:
        scales_WM1 = scales.reshape(*packed_WMB.shape[:2], 1)
        weight = ((packed_WMB.to(torch.float32) - format_.zero_point) * scales_WM1).flatten(1)
        return hidden_1D @ weight[:, : hidden_1D.shape[1]].T

    @staticmethod
    def symbolic(g: Any, hidden: Any, packed: Any, scales: Any, format_: BlockFormat) -> Any:
        rows, width = packed.type().sizes()[0], hidden.type().sizes()[1]
        product = g.op(
            f"{CONTRIB}::MatMulNBits", hidden, packed, scales, K_i=width, N_i=rows, bits_i=format_.bits,
            block_size_i=format_.block, accuracy_level_i=INT8_ACTIVATIONS,
        )  # fmt: skip
        return product.setType(hidden.type().with_sizes([1, rows]))


class _FloatProduct(Function):
    """Gemm reads the table as it lies; a traced product would store it a second time, transposed."""

    @staticmethod
    def forward(_: Any, hidden_1D: Tensor, table_WD: Tensor) -> Tensor:
        return hidden_1D @ table_WD.T

    @staticmethod
    def symbolic(g: Any, hidden: Any, table: Any) -> Any:
        product = g.op("Gemm", hidden, table, transB_i=1)
        return product.setType(hidden.type().with_sizes([1, table.type().sizes()[0]]))
