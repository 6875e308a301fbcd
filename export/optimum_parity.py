"""Compares artifacts of layout ``optimum`` with their checkpoint: vectors of tools, logits of every slot, whole plans.

On a processor, where half precision is widened, so that what is compared is the graph and the rounded weights.
"""

from __future__ import annotations

import numpy as np

from export.fused_qwen2 import Precision
from export.optimum_artifacts import tolerance_of
from export.parity import ParityError, ParityReport
from export.sample_inputs import PARITY_REQUESTS, PARITY_TOOLS, shortlist, tool_batch, window
from tomas_router.engines.optimum_engine import OptimumEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.planner.engine import Opening, OpenRequest, StepOutcome
from tomas_router.schema.manifest import Quantisation
from tomas_router.training.checkpoint import Checkpoint

STEPS = 3
TIE: dict[Precision, float] = {"float32": 0.01, "float16": 0.1, "bfloat16": 0.5}
"""As ``export.parity.TIE``."""
ROUNDED_TIE: dict[Quantisation, float] = {"int8": 0.5, "int4": 1.5}


def check_optimum_parity(checkpoint: Checkpoint, exported: OptimumEngine, precision: Precision) -> ParityReport:
    """Both engines on the reference's plans, requests alone and in one batch.

    Raises:
        ParityError: A value or a choice differs by more than the precision explains; names it.
    """
    reference, manifest = TorchEngine(checkpoint), exported.manifest
    report = ParityReport(
        manifest.name,
        manifest.fingerprint,
        manifest.training_fingerprint,
        manifest.versions,
        manifest.quantisation,
        tolerance_of(precision, manifest.quantisation),
        len(PARITY_REQUESTS),
        len(PARITY_TOOLS),
    )
    theirs = reference.encode_tools(tool_batch(reference, PARITY_TOOLS))
    ours = exported.encode_tools(tool_batch(exported, PARITY_TOOLS))
    for name in type(theirs).__dataclass_fields__:
        report.note(f"tool_heads.{name.rsplit('_', 1)[0]}", getattr(ours, name), getattr(theirs, name))
    tie = ROUNDED_TIE.get(manifest.quantisation, TIE[precision])
    requests = [_request(exported, number) for number in range(len(PARITY_REQUESTS))]
    together = exported.open_batch(requests, ours)
    for number, (request, opening) in enumerate(zip(requests, together, strict=True)):
        inputs = request.instruction, theirs, request.shortlist, request.window, request.links
        expected = reference.open(*inputs)
        alone = exported.open(request.instruction, ours, *inputs[2:])
        report.note("open_heads.gate_logit", alone.gate_logit, expected.gate_logit)
        equal = _follow(reference, exported, expected, (alone, opening), number, tie, report)
        report.plans_equal += equal
    _check_worst(report)
    return report


def _follow(
    reference: TorchEngine,
    exported: OptimumEngine,
    expected: Opening,
    seen: tuple[Opening, Opening],
    number: int,
    tie: float,
    report: ParityReport,
) -> bool:
    """Slot after slot on the reference's choices; whether every choice was the same."""
    equal = True
    theirs: Opening | StepOutcome = expected
    ours: tuple[Opening | StepOutcome, ...] = seen
    for slot in range(STEPS + 1):
        for outcome in ours:
            report.note("tool_logits", outcome.tool_logits, theirs.tool_logits)
            equal &= _same_choice(theirs.tool_logits, outcome.tool_logits, f"request {number}, slot {slot}", tie)
            report.choices += 1
        if slot < STEPS:
            tool = int(theirs.tool_logits[:-1].argmax())
            theirs = reference.step(theirs.state, tool)
            ours = tuple(exported.step_batch([outcome.state for outcome in ours], [tool] * len(ours)))
            for outcome in ours:
                assert isinstance(outcome, StepOutcome)
                report.note("size_logits", outcome.size_logits, theirs.size_logits)
    report.near_ties_flipped += not equal
    return equal


def _same_choice(theirs: np.ndarray, ours: np.ndarray, where: str, tie: float) -> bool:
    choice, other = int(theirs.argmax()), int(ours.argmax())
    margin, spread = float(theirs[choice] - theirs[other]), float(theirs.std())
    if not margin <= tie * spread:
        raise ParityError(
            f"{where}: the export takes tool {other}, the checkpoint {choice} "
            f"by a margin of {margin:.3g} (logits spread {spread:.3g})"
        )
    return choice == other


def _check_worst(report: ParityReport) -> None:
    worst = max(report.relative_error, key=lambda name: report.relative_error[name])
    if not report.relative_error[worst] <= report.tolerance.relative_error:  # also catches NaN
        raise ParityError(
            f"{worst} differs by {report.relative_error[worst]:.3g} of its size, "
            f"at most {report.tolerance.relative_error:g} is allowed ({report.tolerance.reason})"
        )


def _request(exported: OptimumEngine, number: int) -> OpenRequest:
    points = exported.manifest.sizes.curve_points
    return OpenRequest(
        PARITY_REQUESTS[number],
        shortlist(number, len(PARITY_TOOLS), 1 + number % len(PARITY_TOOLS)),
        window(number, 1 + number % 3, points),
        ("dataflow", "order")[number % 2],
    )
