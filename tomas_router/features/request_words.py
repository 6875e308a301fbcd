"""Which tools the words of a request speak for, by how training requests were worded: a linear classifier.

The network reads what a request means; this remembers how people word it. Each of the two errs where the other does
not, so the decoder listens to both (``planner.decoding.heard``). Words are kept as hashes, since the requests belong
to whoever wrote them. H buckets of words, N tools.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.words import stem, words

Float = NDArray[np.float32]
Int = NDArray[np.int64]

BUCKETS = 1 << 14
REQUEST_WORDS = "request_words.npz"
"""The file of a checkpoint or a model directory."""
LEVELS = 127
"""Weights are stored as so many steps either side of 0."""


@cache
def bucket(word: str) -> int:
    """Where a stem counts: the first 4 bytes of its BLAKE2b, little-endian, modulo ``BUCKETS``."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little") % BUCKETS


def buckets_of(text: str) -> Int:
    """The buckets of a text's stems, ascending, each once. Stop words count: people ask with them."""
    return np.array(sorted({bucket(stem(word)) for word in words(text)}), dtype=np.int64)


def rarity_of(texts: Sequence[str]) -> Float:
    """(H,) inverse document frequencies, smoothed."""
    texts_with_H = np.zeros(BUCKETS)
    for text in texts:
        texts_with_H[buckets_of(text)] += 1
    found: Float = (np.log((1 + len(texts)) / (1 + texts_with_H)) + 1).astype(np.float32)
    return found


def word_vector(text: str, rarity_H: Float) -> tuple[Int, Float]:
    """The buckets of a text and their values: a vector of length 1, empty where there is no word."""
    found = buckets_of(text)
    values = rarity_H[found]
    return found, values / max(float(np.linalg.norm(values)), 1e-9)


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class JobWords:
    """What speaks for one job, which twins share."""

    buckets: Int
    weights: Float
    bias: float
    source: int = 0
    """Jobs of the same number were fitted together; logits of others are not comparable with theirs."""

    @classmethod
    def of(cls, weights_H: Float, bias: float, most: int, least: float, source: int = 0) -> JobWords:
        """The ``most`` weights of largest size, those below ``least`` left out, rounded as they are stored."""
        size_H = np.abs(weights_H)
        kept = np.sort(np.argsort(-size_H, kind="stable")[:most])
        kept = kept[size_H[kept] >= least]
        step = float(size_H[kept].max(initial=0.0)) / LEVELS or 1.0
        return cls(kept, np.round(weights_H[kept] / step).astype(np.float32) * np.float32(step), bias, source)


class RequestWords:
    """Word weights of every tool that training requests asked for."""

    def __init__(self, rarity_H: Float, jobs: Sequence[JobWords], job_of: Mapping[str, int]) -> None:
        """``job_of``: by the digest of a tool (``features.known_tools.digest``), its place in ``jobs``."""
        self.rarity_H = rarity_H
        self._jobs, self._job_of = tuple(jobs), dict(job_of)

    def __len__(self) -> int:
        """How many tools it knows."""
        return len(self._job_of)

    def over(self, older: RequestWords) -> RequestWords:
        """With the tools that only an older classifier knows; both must weigh rarity alike."""
        kept = {digest: job for digest, job in older._job_of.items() if digest not in self._job_of}
        place = {job: len(self._jobs) + i for i, job in enumerate(sorted(set(kept.values())))}
        first = 1 + max((job.source for job in self._jobs), default=-1)
        jobs = [*self._jobs, *(replace(job, source=first + job.source) for job in (older._jobs[i] for i in place))]
        return RequestWords(self.rarity_H, jobs, self._job_of | {digest: place[job] for digest, job in kept.items()})

    def of(self, digests: Sequence[str]) -> ToolWords | None:
        """The classifier over a registry's tools; None where it knows none of them."""
        known = [self._job_of.get(digest) for digest in digests]
        return (
            ToolWords(self.rarity_H, [None if job is None else self._jobs[job] for job in known])
            if any(job is not None for job in known)
            else None
        )

    def write(self, directory: Path) -> None:
        """Writes ``request_words.npz``, the same bytes for the same content."""
        digests = sorted(self._job_of)
        steps = np.array([max(float(np.abs(j.weights).max(initial=0.0)), 1e-9) / LEVELS for j in self._jobs])
        levels = [np.round(j.weights / step) for j, step in zip(self._jobs, steps, strict=True)]
        np.savez_compressed(
            directory / REQUEST_WORDS,
            tool=np.array([int(digest, 16) for digest in digests], dtype=np.uint64),
            job=np.array([self._job_of[digest] for digest in digests], dtype=np.uint16),
            rarity=self.rarity_H.astype(np.float16),
            count=np.array([len(j.buckets) for j in self._jobs], dtype=np.uint16),
            bucket=_joined([j.buckets for j in self._jobs], np.uint16),
            level=_joined(levels, np.int8),
            step=steps.astype(np.float32),
            bias=np.array([j.bias for j in self._jobs], dtype=np.float32),
            source=np.array([j.source for j in self._jobs], dtype=np.uint16),
        )

    @classmethod
    def read(cls, directory: Path) -> RequestWords | None:
        """What ``write`` wrote; None where nothing was."""
        path = directory / REQUEST_WORDS
        if not path.exists():
            return None
        with np.load(path) as stored:
            ends = np.cumsum(stored["count"].astype(np.int64))
            level, place = stored["level"].astype(np.float32), stored["bucket"].astype(np.int64)
            jobs = [
                JobWords(place[end - count : end], level[end - count : end] * step, float(bias), int(source))
                for end, count, step, bias, source in zip(
                    ends,
                    stored["count"].astype(np.int64),
                    stored["step"],
                    stored["bias"],
                    stored["source"],
                    strict=True,
                )
            ]
            job_of = {f"{int(tool):016x}": int(job) for tool, job in zip(stored["tool"], stored["job"], strict=True)}
            return cls(stored["rarity"].astype(np.float32), jobs, job_of)


class ToolWords:
    """The classifier over the tools of one registry."""

    def __init__(self, rarity_H: Float, jobs: Sequence[JobWords | None]) -> None:
        """``jobs``: one a tool; None where it is unknown."""
        self._rarity_H = rarity_H
        self.source_N: Int = np.array([-1 if job is None else job.source for job in jobs], dtype=np.int64)
        """Whose logits each tool's may be compared with; -1 for those that it does not know."""
        self._bias_N = np.array([np.nan if job is None else job.bias for job in jobs])
        known = [(tool, job) for tool, job in enumerate(jobs) if job is not None]
        bucket_E = np.concatenate([job.buckets for _, job in known])
        order = np.argsort(bucket_E, kind="stable")
        self._bucket_E = bucket_E[order]
        self._tool_E = np.concatenate([np.full(len(job.buckets), tool) for tool, job in known])[order]
        self._weight_E = np.concatenate([job.weights for _, job in known])[order]

    def log_odds(self, request: str) -> NDArray[np.float64]:
        """(N,) logits, comparable with those of the same source alone; NaN for tools that it does not know."""
        found_N = self._bias_N.copy()
        places, values = word_vector(request, self._rarity_H)
        starts, ends = np.searchsorted(self._bucket_E, places), np.searchsorted(self._bucket_E, places, side="right")
        for start, end, value in zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True):
            found_N[self._tool_E[start:end]] += value * self._weight_E[start:end]  # each tool at most once
        return found_N


def _joined(parts: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.concatenate([np.zeros(0), *parts]).astype(dtype)
