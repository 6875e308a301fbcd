"""The law of latency over work and share: t = k0 + k1 b + (k2 + k3 b) / s, and how well it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Law:
    """Coefficients in ms: of a run, of a unit of work, and the same for what shrinks with the share."""

    k: tuple[float, float, float, float]

    def latency_ms(self, units: float, share: float) -> float:
        """Of a run on so many units, on a share from 0 (excluded) to 1 of the SMs."""
        return float(_terms(np.array([units]), np.array([share]))[0] @ np.array(self.k))

    def serial_share(self, units: float) -> float:
        """Part of the time on the whole GPU that a larger share would not shorten."""
        return (self.k[0] + self.k[1] * units) / self.latency_ms(units, 1.0)


@dataclass(frozen=True)
class Fit:
    """A law, and its errors relative to what was measured."""

    law: Law
    points: int
    mape: float
    p95: float
    left_out_mape: float
    """Each point predicted by the law of the others."""
    left_out_p95: float


def fit(units: Sequence[float], shares: Sequence[float], latencies_ms: Sequence[float]) -> Fit:
    """Fits by least squares of the relative error, with no coefficient below 0.

    Raises:
        ValueError: Fewer than six points.
    """
    b, s, t = (np.asarray(values, dtype=float) for values in (units, shares, latencies_ms))
    if len(t) < 6:
        raise ValueError(f"a law of four coefficients needs at least 6 points, got {len(t)}")
    terms = _terms(b, s)
    k = _least_squares(terms, t)
    errors = np.abs(terms @ k - t) / t
    left_out = np.array([_left_out_error(terms, t, i) for i in range(len(t))])
    return Fit(
        Law(tuple(float(value) for value in k)),
        len(t),
        float(errors.mean()),
        float(np.quantile(errors, 0.95)),
        float(left_out.mean()),
        float(np.quantile(left_out, 0.95)),
    )


def _terms(b: np.ndarray, s: np.ndarray) -> np.ndarray:
    """(N, 4): what each coefficient is multiplied with."""
    return np.stack([np.ones_like(b), b, 1 / s, b / s], axis=1)


def _left_out_error(terms: np.ndarray, t: np.ndarray, i: int) -> float:
    others = np.arange(len(t)) != i
    return float(abs(terms[i] @ _least_squares(terms[others], t[others]) - t[i]) / t[i])


def _least_squares(terms: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Non-negative: with four columns, every choice of them is tried, and the best without a negative one wins."""
    relative = terms / t[:, None]
    best, best_error = np.zeros(terms.shape[1]), np.inf
    for size in range(1, terms.shape[1] + 1):
        for chosen in combinations(range(terms.shape[1]), size):
            part, *_ = np.linalg.lstsq(relative[:, chosen], np.ones(len(t)), rcond=None)
            error = float(((relative[:, chosen] @ part - 1) ** 2).sum())
            if part.min() >= 0 and error < best_error:
                best, best_error = np.zeros(terms.shape[1]), error
                best[list(chosen)] = part
    return best
