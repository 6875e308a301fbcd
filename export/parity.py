"""Compares exported artifacts with the checkpoint they came from, at sizes that were not traced.

Values first (each output against torch), then what counts: the decoded plans. A float export must agree closely; a
quantised one has a looser bound on values and must still decode nearly the same plans.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.planner.engine import CurveWindow, ToolEncodings
from tomas_router.schema.manifest import Quantisation
from tomas_router.schema.registry import ToolSpec

TOLERANCES: dict[Quantisation, float] = {"none": 2e-3, "int8": 0.35, "int4": 0.6}
"""Largest relative error ||out - ref|| / ||ref|| of any output. Float: other summation order through the layers; the
token embedding is one byte a number in every export (its error is in the first figure's slack of the reference, which
reads the same quantised table). int8, int4: rounding of weights and activations accumulates over the layers."""
PLAN_AGREEMENT: dict[Quantisation, float] = {"none": 1.0, "int8": 0.7, "int4": 0.5}
"""Share of decoded tool sequences that must be equal on the parity requests (near ties may flip)."""

REQUESTS = (
    "Transcribe the two-hour 4K recording of the board meeting, summarise it and mail it to Maria",
    "remove the background from this photo",
    "Total sales per region from orders.xlsx, then plot them and post the chart in #sales",
    "你好，请把这份合同翻译成德语",
    "What is the capital of France?",
    "Unzip photos.zip, find duplicates, upscale the rest and upload everything to the cloud",
    "Hi",
)


class ParityError(RuntimeError):
    """The artifacts do not compute what the checkpoint computes."""


@dataclass(frozen=True)
class ParityReport:
    """Largest relative error per output, and how many tool sequences agree."""

    quantisation: Quantisation
    relative_error: dict[str, float]
    plan_agreement: float
    requests: int

    def write(self, directory: Path) -> None:
        """``parity.json`` beside the graphs."""
        (directory / "parity.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def check_parity(reference: TorchEngine, exported: OnnxEngine, quantisation: Quantisation) -> ParityReport:
    """Runs both engines on the same inputs.

    Raises:
        ParityError: An output or the decoded plans are further apart than allowed; names the output.
    """
    errors: dict[str, float] = {}
    ours, theirs = _encode(reference), _encode(exported)
    for name in ("v_toolaware_ND", "key_ND", "retrieval_ND", "prefix_keys", "prefix_values"):
        errors[name] = relative_error(getattr(theirs, name), getattr(ours, name))
    agree = 0
    for number, request in enumerate(REQUESTS):
        rng = np.random.default_rng(number)
        window = CurveWindow(rng.uniform(0, 40, (1 + number % 2, 96, 4)).astype(np.float32), 4.0 + 0.3 * number)
        shortlist = np.sort(rng.choice(len(TOOLS), 3 + number, replace=False))
        # The reference's own tool encodings go to both, so that this measures the request path alone.
        a = _follow(reference, ours, request, window, shortlist, errors, None)
        b = _follow(exported, ours, request, window, shortlist, errors, a)
        agree += [t for t, _ in a] == [t for t, _ in b]
    report = ParityReport(quantisation, errors, agree / len(REQUESTS), len(REQUESTS))
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= TOLERANCES[quantisation]:  # also catches NaN
        raise ParityError(f"{worst} differs by {errors[worst]:.3g}, at most {TOLERANCES[quantisation]} is allowed")
    if report.plan_agreement < PLAN_AGREEMENT[quantisation]:
        raise ParityError(
            f"only {report.plan_agreement:.0%} of the decoded tool sequences agree, "
            f"{PLAN_AGREEMENT[quantisation]:.0%} are needed"
        )
    return report


def relative_error(out: np.ndarray, reference: np.ndarray) -> float:
    """||out - reference|| / ||reference||; infinite for another shape."""
    if out.shape != reference.shape:
        return float("inf")
    return float(np.linalg.norm(out - reference) / max(float(np.linalg.norm(reference)), 1e-6))


Followed = list[tuple[int, np.ndarray]]
TOOLS = [
    ToolSpec(name=f"tool_{i}", desc=("Works on " + what + ". ") * (1 + i % 3))
    for i, what in enumerate(
        [
            "audio",
            "images",
            "video",
            "documents",
            "text",
            "tables",
            "the-web",
            "e-mail",
            "files",
            "code",
            "maps",
            "music",
        ]
    )
]


def _encode(engine: TorchEngine | OnnxEngine) -> ToolEncodings:
    batch = engine.prepare_tools(TOOLS, None)
    rows, mask = np.zeros((len(TOOLS), 4, 6), np.float32), np.zeros((len(TOOLS), 4), bool)
    rows[:] = np.random.default_rng(0).normal(size=rows.shape)
    mask[::2] = True
    mask[1::4, :2] = True
    return engine.encode_tools(type(batch)(batch.token_ids_NL, batch.token_mask_NL, rows, mask))


def _follow(
    engine: TorchEngine | OnnxEngine,
    tools: ToolEncodings,
    request: str,
    window: CurveWindow,
    shortlist: np.ndarray,
    errors: dict[str, float],
    reference: Followed | None,
) -> Followed:
    """Three greedy steps; with a reference, its tools are fed back and values are compared slot by slot."""
    opening = engine.open(request, tools, shortlist, window, "dataflow")
    state, logits = opening.state, opening.tool_logits
    followed: Followed = []
    for k in range(4):
        choice = int(logits[:-1].argmax())
        followed.append((choice, logits))
        if reference is not None:
            _note(errors, "tool_logits", relative_error(logits, reference[k][1]))
            choice = reference[k][0]
        if k < 3:
            outcome = engine.step(state, choice)
            state, logits = outcome.state, outcome.tool_logits
    return followed


def _note(errors: dict[str, float], name: str, value: float) -> None:
    errors[name] = max(errors.get(name, 0.0), value)
