"""Fits the classifier from words to tools (``features.request_words``) on training requests.

Each source is a classification of its own, since a registry rarely holds tools of two; rarity is counted over all. A
request counts for each of its tools. In the literature this is the wide part of a wide and deep model (Cheng et al.,
2016), trained apart from the deep one: on top of logits of requests that a network was trained on, which are surer
than they should be, it would learn nothing.

    python -m tomas_router.training.request_words --config FILE --data-dir DIR --out DIR

writes it for a model that is trained already; ``python -m export.seal MODEL --request-words DIR`` puts it there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from tomas_router.config import load_config
from tomas_router.features.known_tools import digest
from tomas_router.features.request_words import BUCKETS, Float, Int, JobWords, RequestWords, rarity_of, word_vector
from tomas_router.training.sources import GENERATED, Source, load_sources

STEPS, BATCH_SIZE, LEARNING_RATE = 800, 512, 0.05
ROW_WEIGHT = 3.0
"""Of one row's loss, beside half the sum of squared weights."""
UNSEEN_ROWS = 0.1
"""Rows that a job counts beside those that it has."""
LEAST_REQUESTS, HELD_OUT = 10, 5
"""Requests of a source that are worth a fit; the share of them, one in so many, that tells how far to trust it."""
SURETIES = tuple(np.arange(0.0, 2.01, 0.1).tolist())
MOST_WORDS, LEAST_WEIGHT = 300, 0.05
"""Kept of a job's weights."""


def fit_request_words(
    sources: Iterable[Source], before: RequestWords | None = None, *, seed: int = 0, device: str = "cpu"
) -> RequestWords:
    """The classifier over the tools that rows ask for, those of an older one kept where it knows others.

    Args:
        sources: of training, the first one that has a tool teaches its words. Those that the project composes are left
            out: their wordings return, so requests held out would say that words can be trusted more than they can.
        before: of the model that training began with; its rarities stay.
        seed: of the batches.
        device: ``cpu`` or ``cuda``.
    """
    asked = [source for source in sources if source.name not in GENERATED and any(row.steps for row in source.rows)]
    if before is None:
        rarity_H = rarity_of([row.instruction for source in asked for row in source.rows])
    else:
        rarity_H = before.rarity_H
    jobs: list[JobWords] = []
    job_of: dict[str, int] = {}
    for number, source in enumerate(asked):
        requests = _Requests.of(source, rarity_H)
        surety = _surety(requests, seed, device)
        if surety == 0.0:
            continue
        own = {
            digest(tool): len(jobs) + requests.job_of[tool.name]
            for tool in source.registry
            if tool.name in requests.job_of
        }
        jobs += _job_words(requests, *_fit(requests, seed, device), surety, number)
        job_of = own | job_of
    found = RequestWords(rarity_H, jobs, job_of)
    return found if before is None else found.over(before)


@dataclass(frozen=True)
class _Requests:
    """Requests as vectors over the U words that are used at all, and J jobs: tools, twins together."""

    vectors: tuple[tuple[Int, Float], ...]
    right: tuple[list[int], ...]
    """Jobs of each."""
    jobs: int
    job_of: Mapping[str, int]
    """By the name of a tool."""
    used: Int
    """(U,) buckets."""

    @classmethod
    def of(cls, source: Source, rarity_H: Float) -> _Requests:
        names = {tool.name: tool.group or tool.name for tool in source.registry}
        rows = [(row.instruction, sorted({names[step.tool] for step in row.steps})) for row in source.rows if row.steps]
        place = {job: j for j, job in enumerate(sorted({job for _, own in rows for job in own}))}
        vectors = [word_vector(text, rarity_H) for text, _ in rows]
        used = np.unique(np.concatenate([places for places, _ in vectors]))
        return cls(
            tuple((np.searchsorted(used, places), values) for places, values in vectors),
            tuple([place[job] for job in own] for _, own in rows),
            len(place),
            {tool: place[job] for tool, job in names.items() if job in place},
            used,
        )

    def take(self, index: Int) -> _Requests:
        return replace(self, vectors=tuple(self.vectors[i] for i in index), right=tuple(self.right[i] for i in index))

    def targets(self, index: Sequence[int]) -> Tensor:
        """(B, J): a request's target is spread over its jobs."""
        target_BJ = torch.zeros(len(index), self.jobs)
        for b, i in enumerate(index):
            target_BJ[b, self.right[i]] = 1 / len(self.right[i])
        return target_BJ

    def logits(self, index: Sequence[int], weights_UJ: Tensor) -> Tensor:
        """(B, J), without biases."""
        vectors = [self.vectors[i] for i in index]
        offsets = torch.tensor(np.cumsum([0, *(len(places) for places, _ in vectors[:-1])]))
        places = torch.from_numpy(np.concatenate([places for places, _ in vectors]))
        values = torch.from_numpy(np.concatenate([values for _, values in vectors]))
        places, offsets, values = (part.to(weights_UJ.device) for part in (places, offsets, values))
        return embedding_bag(places, weights_UJ, offsets, mode="sum", per_sample_weights=values)


def _fit(requests: _Requests, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """(U, J) weights and (J,) biases of a multinomial logistic regression with L2, by Adam on batches."""
    count = len(requests.vectors)
    asked_J = torch.full((requests.jobs,), UNSEEN_ROWS)
    for own in requests.right:
        asked_J[own] += 1.0
    weights_UJ = torch.zeros(len(requests.used), requests.jobs, device=device, requires_grad=True)
    bias_J = (asked_J / asked_J.sum()).log().to(device).requires_grad_()
    optimizer = torch.optim.Adam([weights_UJ, bias_J], lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    rng = np.random.default_rng(seed)
    decay = 0.5 / (ROW_WEIGHT * count)
    for _ in range(STEPS):
        drawn = rng.integers(0, count, min(BATCH_SIZE, count)).tolist()
        logits_BJ = requests.logits(drawn, weights_UJ) + bias_J
        target_BJ = requests.targets(drawn).to(device)
        loss = -(target_BJ * logits_BJ.log_softmax(1)).sum(1).mean() + decay * weights_UJ.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return weights_UJ.detach(), bias_J.detach()


def _surety(requests: _Requests, seed: int, device: str) -> float:
    """By how much to scale the logits, so that requests that a fit has not seen are likeliest; 0: it knows nothing."""
    count = len(requests.vectors)
    if count < LEAST_REQUESTS:
        return 0.0
    order = np.random.default_rng(seed).permutation(count)
    unseen, seen = np.split(order, [count // HELD_OUT])
    weights_UJ, bias_J = _fit(requests.take(seen), seed, device)
    index = unseen.tolist()
    logits_BJ, target_BJ = requests.logits(index, weights_UJ) + bias_J, requests.targets(index).to(device)
    likelihood = [float((target_BJ * (scale * logits_BJ).log_softmax(1)).sum(1).mean()) for scale in SURETIES]
    return SURETIES[int(np.argmax(likelihood))]


def _job_words(requests: _Requests, weights_UJ: Tensor, bias_J: Tensor, surety: float, source: int) -> list[JobWords]:
    weights_JH = np.zeros((requests.jobs, BUCKETS), dtype=np.float32)
    weights_JH[:, requests.used] = surety * weights_UJ.cpu().numpy().T
    biases = (surety * bias_J).tolist()
    return [JobWords.of(w, b, MOST_WORDS, LEAST_WEIGHT, source) for w, b in zip(weights_JH, biases, strict=True)]


def main(argv: list[str] | None = None) -> int:
    """Writes ``OUT/request_words.npz``."""
    parser = argparse.ArgumentParser(prog="python -m tomas_router.training.request_words", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="whose mixture names the sources")
    parser.add_argument("--data-dir", type=Path, action="append", default=[], help="folder of public sources; again")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    train = load_config(args.config).train
    assert train is not None
    folders = tuple(map(str, args.data_dir)) or train.data_dirs
    sources: Mapping[str, Source] = load_sources(
        [name for name in train.mixture if name not in GENERATED], folders, "train"
    )
    found = fit_request_words(sources.values(), seed=train.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    found.write(args.out)
    print(f"{args.out}: the words of {sum(len(s.rows) for s in sources.values())} requests for {len(found)} tools")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
