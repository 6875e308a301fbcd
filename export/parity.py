"""Compares exported artifacts with the checkpoint they came from, at sizes that were not traced.

Three things, each with its own failure: the *interface* (names, types and axes that ONNX Runtime sees are the
manifest's), the *values* (every graph gets the reference's own inputs, so an error is blamed on the right one), and the
*decisions* (both engines decode whole plans, each on its own encodings; wherever the reference is not near a tie, both
must choose alike).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.sample_inputs import PARITY_REQUESTS, PARITY_TOOLS, shortlist, tool_batch, window
from tomas_router.engines.core import Cache, EngineCore, OpenHeads, StepHeads
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.planner.decoding import DecodingOptions, RawPlan, decode
from tomas_router.planner.engine import CurveWindow, Float, Int, ToolBatch, ToolEncodings
from tomas_router.schema.manifest import Manifest, Quantisation, Tolerance
from tomas_router.training.rounding import LayerRounding

TOLERANCES: dict[Quantisation, Tolerance] = {
    "none": Tolerance(relative_error=1e-3, reason="same float32 arithmetic, sums in another order through the layers"),
    "int8": Tolerance(
        relative_error=0.3,
        reason="weights rounded to 7 bits a channel, activations to 8 bits a row; over 24 layers the error of a value "
        "adds up to a fifth of its size, at which every choice still agrees",
    ),
    "packed": Tolerance(
        relative_error=0.2,
        reason="beside the checkpoint with its layers rounded as in the file, as training computes them: what is left "
        "is the rest of the weights, rounded to 7 bits a channel, and activations that fall on other steps",
    ),
    "int4": Tolerance(
        relative_error=0.6,
        reason="weights rounded to 4 bits in blocks of 32, activations to 8; the error adds up over the layers",
    ),
}
TIE: dict[Quantisation, float] = {"none": 0.01, "int8": 0.3, "packed": 1.5, "int4": 1.5}
"""A choice is near a tie when the runner-up is within this many standard deviations of the logits; near ties may flip.
Several times the error that the tolerance allows for one logit."""

STEPS = 3


class ParityError(RuntimeError):
    """The artifacts do not compute what the checkpoint computes."""


@dataclass
class ParityReport:
    """What was compared and how far apart it was.

    ``fingerprint`` is the artifacts', ``training_fingerprint`` the checkpoint's: the report belongs to these two.
    """

    name: str
    fingerprint: str
    training_fingerprint: str
    versions: dict[str, str]
    quantisation: Quantisation
    tolerance: Tolerance
    requests: int
    tools: int
    relative_error: dict[str, float] = field(default_factory=dict)  # graph.output -> largest ||out - ref|| / ||ref||
    choices: int = 0
    near_ties_flipped: int = 0
    plans_equal: int = 0

    def note(self, output: str, ours: Any, reference: Any) -> None:
        """Keeps the largest error of an output."""
        self.relative_error[output] = max(self.relative_error.get(output, 0.0), relative_error(ours, reference))

    def headline(self) -> str:
        """One line for people."""
        worst = max(self.relative_error, key=lambda name: self.relative_error[name])
        return (
            f"parity: largest relative error {self.relative_error[worst]:.2g} ({worst}; "
            f"{self.tolerance.relative_error:g} allowed), plans equal {self.plans_equal}/{self.requests}, "
            f"near ties flipped {self.near_ties_flipped}/{self.choices}"
        )

    def write(self, directory: Path) -> None:
        """``parity.json`` for machines and ``parity.md`` for people, beside the graphs."""
        record = asdict(self) | {"tolerance": self.tolerance.model_dump()}
        (directory / "parity.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        rows = [f"| {name} | {error:.2e} |" for name, error in sorted(self.relative_error.items())]
        text = [
            f"# Parity with the checkpoint ({self.quantisation})",
            "",
            self.headline() + ".",
            "",
            f"Tolerance {self.tolerance.relative_error:g}: {self.tolerance.reason}.",
            "",
            f"Near ties: runner-up within {TIE[self.quantisation]:g} standard deviations of the logits; they may flip, "
            "other choices may not.",
            "",
            f"Compared: {self.name}, artifacts {self.fingerprint}, checkpoint {self.training_fingerprint}; "
            f"{self.requests} requests, {self.tools} tools, at sizes that were not traced.",
            "",
            f"Versions: {', '.join(f'{package} {version}' for package, version in self.versions.items())}.",
            "",
            "| output | largest relative error |",
            "|---|---|",
            *rows,
        ]
        (directory / "parity.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def check_parity(reference: TorchEngine, exported: OnnxEngine, quantisation: Quantisation) -> ParityReport:
    """Runs both engines on the same inputs.

    Raises:
        ParityError: An interface, a value or a decision differs by more than is allowed; names it.
    """
    manifest = exported.manifest
    report = ParityReport(
        manifest.name,
        manifest.fingerprint,
        manifest.training_fingerprint,
        manifest.versions,
        quantisation,
        TOLERANCES[quantisation],
        len(PARITY_REQUESTS),
        len(PARITY_TOOLS),
    )
    check_interfaces(exported)
    with _rounded_like(reference, quantisation):
        _compare(reference, exported, report)
    if quantisation == "none" and report.plans_equal < report.requests:
        raise ParityError(f"only {report.plans_equal} of {report.requests} decoded plans are equal")
    return report


@contextmanager
def _rounded_like(reference: TorchEngine, quantisation: Quantisation) -> Iterator[None]:
    """Inside the block the reference computes with packed layers where the export has them.

    Training knows that rounding and makes up for it, so unrounded weights are not what the model was trained to be. A
    finished model is rounded already; a checkpoint that never met rounding is compared as the export rounds it.
    """
    rounding = LayerRounding(reference.model.backbone.layers if quantisation == "packed" else ())
    rounding.on = True
    rounding.refresh()
    try:
        yield
    finally:
        rounding.remove()


def _compare(reference: TorchEngine, exported: OnnxEngine, report: ParityReport) -> None:
    _compare_values(reference, exported, report)
    worst = max(report.relative_error, key=lambda name: report.relative_error[name])
    if not report.relative_error[worst] <= report.tolerance.relative_error:  # also catches NaN
        raise ParityError(
            f"{worst} differs by {report.relative_error[worst]:.3g} of its size, "
            f"at most {report.tolerance.relative_error:g} is allowed ({report.tolerance.reason})"
        )
    _compare_decisions(reference, exported, report)


def relative_error(out: Any, reference: Any) -> float:
    """||out - reference|| / ||reference||; infinite for another shape or for NaN."""
    ours, theirs = np.asarray(out, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if ours.shape != theirs.shape:
        return float("inf")
    error = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-6))
    return error if np.isfinite(error) else float("inf")


# ---- interface ------------------------------------------------------------------------------------------------------


def check_interfaces(exported: OnnxEngine) -> None:
    """Names, types and axes of every graph as ONNX Runtime sees them, against the manifest.

    Raises:
        ParityError: They differ; names graph and tensor.
    """
    different = exported.interface_difference()
    if different is not None:
        raise ParityError(
            f"{different.graph}: {different.kind} is {different.seen}, the manifest says {different.written}"
        )
    _check_dynamic_axes(exported.manifest)


def _check_dynamic_axes(manifest: Manifest) -> None:
    """A size that tracing froze by accident would only show in a user's request."""
    for name in ("text", "backbone"):
        entry = manifest.graphs.get(name)
        fixed = [
            tensor.name
            for tensor in ((*entry.inputs, *entry.outputs) if entry is not None else ())
            if not isinstance(tensor.shape[0], str) or not any(isinstance(axis, str) for axis in tensor.shape[1:])
        ]
        if fixed:
            raise ParityError(f"{name}: {fixed} have no dynamic batch and sequence axes")


# ---- values ---------------------------------------------------------------------------------------------------------


class _SideBySide(EngineCore):
    """Goes the reference's way and lets the exported graphs compute every piece from the same inputs."""

    name = "side by side"
    fingerprint = ""

    def __init__(self, reference: TorchEngine, exported: OnnxEngine, report: ParityReport) -> None:
        super().__init__(
            reference.preparation,
            reference.small,
            reference.calibration,
            reference.max_prefix_tools,
            reference.virtual_tokens,
        )
        self._reference, self._exported, self._report = reference, exported, report

    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        reference, ours = self._reference.encode_tools(batch), self._exported.encode_tools(batch)
        self._note("tool_encoder", tuple(vars(ours).values()), tuple(vars(reference).values()))
        return reference

    def embed(self, token_ids_S: np.ndarray) -> Float:
        reference = self._reference.embed(token_ids_S)
        self._report.note("token_table", self._exported.embed(token_ids_S), reference)
        return reference

    def continue_text(self, embeds_SD: Float, cache: Cache) -> tuple[Float, Cache]:
        reference, longer = self._reference.continue_text(embeds_SD, cache)
        states, present = self._exported.continue_text(embeds_SD, _as_numpy(cache))
        self._report.note("text.last_hidden_state", _unit_rows(states), _unit_rows(reference))
        self._note_present("text", present, longer)
        return reference, longer

    def empty_text_cache(self) -> Cache:
        return self._reference.empty_text_cache()

    def curve_context(self, series_GT4: Float, log_horizon_1: Float) -> tuple[Float, Float]:
        reference = self._reference.curve_context(series_GT4, log_horizon_1)
        ours = self._exported.curve_context(series_GT4, log_horizon_1)
        self._note("context", ours, reference)
        return reference

    def shortlist_keys(self, v_toolaware_PD: Float) -> Float:
        reference = self._reference.shortlist_keys(v_toolaware_PD)
        self._report.note("tool_set.keys", self._exported.shortlist_keys(v_toolaware_PD), reference)
        return reference

    def run_layers(self, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        reference, longer = self._reference.run_layers(embeds_TD, cache)
        hidden, present = self._exported.run_layers(embeds_TD, _as_numpy(cache))
        self._report.note("backbone.last_hidden_state", hidden, reference)
        self._note_present("backbone", present, longer)
        return reference, longer

    def read_opening(self, task_SD: Float, slot_D: Float, v_temporal_E: Float) -> OpenHeads:
        reference = self._reference.read_opening(task_SD, slot_D, v_temporal_E)
        ours = self._exported.read_opening(task_SD, slot_D, v_temporal_E)
        self._note("open_heads", tuple(vars(ours).values()), tuple(vars(reference).values()))
        return reference

    def read_step(
        self, steps_KD: Float, slot_D: Float, request_Q: Float, v_toolaware_D: Float, v_temporal_E: Float
    ) -> StepHeads:
        inputs = steps_KD, slot_D, request_Q, v_toolaware_D, v_temporal_E
        reference, ours = self._reference.read_step(*inputs), self._exported.read_step(*inputs)
        self._note("step_heads", tuple(vars(ours).values()), tuple(vars(reference).values()))
        return reference

    def read_text(self, hidden_D: Float) -> tuple[float, Float]:
        reference = self._reference.read_text(hidden_D)
        self._note("lm_head", self._exported.read_text(hidden_D), reference)
        return reference

    def cache_layer(self, keys_1HPC: Float, values_1HPC: Float) -> Any:
        return self._reference.cache_layer(keys_1HPC, values_1HPC)

    def _note(self, graph: str, ours: tuple[Any, ...], reference: tuple[Any, ...]) -> None:
        outputs = self._exported.manifest.graphs[graph].outputs
        for output, our, their in zip(outputs, ours, reference, strict=True):
            self._report.note(f"{graph}.{output.name}", our, their)

    def _note_present(self, graph: str, present: Cache, reference: Cache) -> None:
        """The worst layer, keys and values apart."""
        for (our_key, our_value), (key, value) in zip(present.layers, _as_numpy(reference).layers, strict=True):
            self._report.note(f"{graph}.present.key", our_key, key)
            self._report.note(f"{graph}.present.value", our_value, value)


def _unit_rows(states_SD: Float) -> Float:
    """Rows of length 1: a text's first token is a hundred times as large as the others and would hide them."""
    unit: Float = states_SD / np.maximum(np.linalg.norm(states_SD, axis=-1, keepdims=True), 1e-6)
    return unit


def _as_numpy(cache: Cache) -> Cache:
    layers = tuple((np.asarray(keys), np.asarray(values)) for keys, values in cache.layers)
    return Cache(layers, cache.length, cache.next_position)


def _compare_values(reference: TorchEngine, exported: OnnxEngine, report: ParityReport) -> None:
    both = _SideBySide(reference, exported, report)
    tools = both.encode_tools(tool_batch(both, PARITY_TOOLS))
    for number, request in enumerate(PARITY_REQUESTS):
        links = ("dataflow", "order")[number % 2]
        opening = both.open(request, tools, _shortlist(number), _window(exported, number), links)
        state, logits = opening.state, opening.tool_logits
        for _ in range(STEPS):
            outcome = both.step(state, int(logits[:-1].argmax()))
            state, logits = outcome.state, outcome.tool_logits
    for _ in both.explain(PARITY_REQUESTS[0], tools, _window(exported, 0), max_tokens=4):
        pass


# ---- decisions ------------------------------------------------------------------------------------------------------


def _compare_decisions(reference: TorchEngine, exported: OnnxEngine, report: ParityReport) -> None:
    theirs = reference.encode_tools(tool_batch(reference, PARITY_TOOLS))
    ours = exported.encode_tools(tool_batch(exported, PARITY_TOOLS))
    for number, request in enumerate(PARITY_REQUESTS):
        _follow(reference, exported, theirs, ours, number, report)
        options = DecodingOptions(num_steps=1 + number % STEPS)
        plans = [
            decode(engine, request, tools, _shortlist(number), _window(exported, number), options)
            for engine, tools in ((reference, theirs), (exported, ours))
        ]
        report.plans_equal += _decisions(plans[0]) == _decisions(plans[1])


def _decisions(plan: RawPlan) -> list[tuple[int, int, tuple[int, ...]]]:
    """What a plan decides: tool, size and dependencies of every step."""
    return [(step.tool, int(np.argmax(step.size_logits)), step.depends_on) for step in plan.steps]


def _follow(
    reference: TorchEngine,
    exported: OnnxEngine,
    theirs: ToolEncodings,
    ours: ToolEncodings,
    number: int,
    report: ParityReport,
) -> None:
    """Both engines on the reference's plan, so that one flipped tie does not spoil the slots behind it."""
    inputs = _shortlist(number), _window(exported, number), "dataflow"
    expected, seen = (
        reference.open(PARITY_REQUESTS[number], theirs, *inputs),
        exported.open(PARITY_REQUESTS[number], ours, *inputs),
    )
    for slot in range(STEPS + 1):
        choice = int(expected.tool_logits.argmax())
        other = int(seen.tool_logits.argmax())
        report.choices += 1
        if choice != other:
            margin = float(expected.tool_logits[choice] - expected.tool_logits[other])
            spread = float(expected.tool_logits.std())
            if not margin <= TIE[report.quantisation] * spread:
                raise ParityError(
                    f"request {number}, slot {slot}: the export takes tool {other}, the checkpoint {choice} "
                    f"by a margin of {margin:.3g} (logits spread {spread:.3g})"
                )
            report.near_ties_flipped += 1
        if slot < STEPS:
            tool = int(expected.tool_logits[:-1].argmax())
            expected, seen = reference.step(expected.state, tool), exported.step(seen.state, tool)  # type: ignore[assignment]


def _shortlist(number: int) -> Int:
    return shortlist(number, len(PARITY_TOOLS), 1 + number % len(PARITY_TOOLS))


def _window(engine: OnnxEngine, number: int) -> CurveWindow:
    return window(number, 1 + number % 3, engine.manifest.sizes.curve_points)
