"""The whole left panel: text and profile of tools to v_toolaware and h_toolset."""

from __future__ import annotations

from torch import Tensor, nn

from tomas_router.config import ToolConfig
from tomas_router.encoders.resource_mlp import ResourceMLP
from tomas_router.encoders.set_encoder import ToolAwareEmbedding, ToolSetEncoder
from tomas_router.encoders.tool_encoder import TextToolEncoder


class CompleteToolEncoder(nn.Module):
    """Text encoder, ResourceMLP, their concatenation and the set encoder."""

    def __init__(self, config: ToolConfig, d_model: int) -> None:
        super().__init__()
        d_tool = d_model - config.d_resource
        self.text = TextToolEncoder(d_model, d_tool)
        self.resource = ResourceMLP(config.d_resource)
        self.aware = ToolAwareEmbedding(d_tool, config.d_resource, d_model)
        self.tool_set = ToolSetEncoder(d_model, config.set_heads)

    def encode(self, hidden_NLD: Tensor, mask_NL: Tensor, rows_NR6: Tensor, row_mask_NR: Tensor) -> Tensor:
        """Hidden states of the tool texts and scaled profile rows to v_toolaware (N, D)."""
        v_toolaware_ND: Tensor = self.aware(self.text(hidden_NLD, mask_NL), self.resource(rows_NR6, row_mask_NR))
        return v_toolaware_ND

    def encode_pooled(self, pooled_NX: Tensor, rows_NR6: Tensor, row_mask_NR: Tensor) -> Tensor:
        """As ``encode``, from tool texts that are pooled already (N, 2 D)."""
        v_toolaware_ND: Tensor = self.aware(self.text.project(pooled_NX), self.resource(rows_NR6, row_mask_NR))
        return v_toolaware_ND

    def forward(self, v_toolaware_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """Candidates (B, N, D) to h_toolset (B, N, D)."""
        h_toolset_BND: Tensor = self.tool_set(v_toolaware_BND, mask_BN)
        return h_toolset_BND
