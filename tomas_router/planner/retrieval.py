"""Which tools go into the prefix: one matrix product ranks all of them.

N tools, D retrieval width. The classifier scores every tool whether or not it is in the prefix; the prefix lets the
backbone and set attention look at the likely ones together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int64]


def shortlist(retrieval_ND: Float, request_D: Float, limit: int, candidates: Int | None = None) -> Int:
    """Indices of at most ``limit`` tools, ascending; the order carries no meaning for the network.

    Args:
        retrieval_ND: unit vectors of the tools.
        request_D: unit vector of the request.
        limit: how many tools the prefix takes.
        candidates: indices that may be chosen; all of them go in when they fit, else the best of them.
    """
    eligible = np.arange(len(retrieval_ND), dtype=np.int64) if candidates is None else np.unique(candidates)
    if len(eligible) <= limit:
        return eligible
    scores = retrieval_ND[eligible] @ request_D if candidates is not None else retrieval_ND @ request_D
    top = np.argpartition(-scores, limit - 1)[:limit]
    return np.sort(eligible[top])
