"""Turns tools and requests into the network's inputs; the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.curve import CurveScaler, window_features
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler, pad_rows, raw_features
from tomas_router.features.tool_text import tool_text
from tomas_router.planner.engine import CurveWindow, Float, ToolBatch
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolSpec


@dataclass(frozen=True)
class Preparation:
    """Tokenizer, scalers and limits of a trained model."""

    tokenizer: TextTokenizer
    rows: RowScaler
    curves: CurveScaler
    max_task_tokens: int
    max_tool_tokens: int
    max_rows: int

    def tools(self, tools: Sequence[ToolSpec], profiling: ProfilingTable | None) -> ToolBatch:
        """Tokenises texts and scales profile rows; a tool without rows gets an empty mask."""
        ids, mask = self.tokenizer.encode_batch([tool_text(t.name, t.desc) for t in tools], self.max_tool_tokens)
        rows = [raw_features(profiling.rows(t.name)) if profiling else np.zeros((0, 6), np.float32) for t in tools]
        padded, row_mask = pad_rows(rows, self.max_rows)
        return ToolBatch(ids, mask, self.rows.transform(padded), row_mask)

    def task(self, instruction: str) -> NDArray[np.int64]:
        """(S,) token ids, at least one."""
        return np.array(self.tokenizer.encode(instruction, self.max_task_tokens) or [0], dtype=np.int64)

    def window(self, window: CurveWindow) -> tuple[Float, Float]:
        """(G, T, 4) normalised curves and (1,) scaled log horizon."""
        return window_features(window.series_GT4, window.log_horizon, self.curves)
