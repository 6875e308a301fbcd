"""The parameters that engines read without a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomas_router.engines.onnx_engine import SMALL_TENSORS
from tomas_router.engines.torch_engine import small_tensors
from tomas_router.model.tomas_model import TOMASLLMModel


def write_small_tensors(model: TOMASLLMModel, out: Path) -> None:
    """One file of plain arrays."""
    small = small_tensors(model)
    np.savez(
        out / SMALL_TENSORS,
        special=small.special_4D,
        links=small.links_2D,
        tool_token_gain=small.tool_token_gain_D,
        prior_weight=np.float32(small.prior_weight),
        repeat_bias=np.float32(small.repeat_bias),
        retrieval_weight=small.retrieval_weight_W,
        retrieval_projection=small.retrieval_projection_ED,
        retrieval_states=small.retrieval_states_EX,
    )
