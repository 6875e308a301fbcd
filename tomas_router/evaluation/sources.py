"""Labelled files with what belongs to them: registry, profiles, rows to score and rows to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tomas_router.datasets.rows import Row, load_rows
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.features.words import words
from tomas_router.schema.findings import FindingLog
from tomas_router.schema.profiling import ProfilingTable, load_profiling_matrix
from tomas_router.schema.registry import ToolRegistry, ToolSpec, load_tool_registry
from tomas_router.schema.request import PlanRequest
from tomas_router.shipped import profiling_path, registry_path

OWN_FOLDER = "instructions"
CALL_ORDER = frozenset({"ultratool", "traject"})
"""Sets whose edges are the order of calls, not the flow of data; requests say so, as in training."""
NO_EDGES = frozenset({"sealtools", "metatool_multi"})
"""Sets that name several tools but no edges between them."""


@dataclass(frozen=True)
class EvalSource:
    """Rows that share a registry."""

    name: str
    rows: tuple[Row, ...]
    training: tuple[Row, ...]
    registry: ToolRegistry
    profiling: ProfilingTable | None
    edges_known: bool
    call_order: bool
    notes: tuple[str, ...] = ()
    unseen: frozenset[str] = frozenset()
    """Tools of the registry that no training row names, nor any of their twins."""
    trained_as: str = ""
    """What a model calls the source in its list of those that it was trained on."""

    def request(self, row: Row) -> PlanRequest:
        """What the planner is asked; sizes and plans stay hidden.

        A row without order comes from a task that states how many tools to name, so the request does too.
        """
        return PlanRequest(
            instruction=row.instruction,
            id=row.id,
            candidates=row.candidates,
            num_steps=len(row.steps) if row.unordered else None,
            links="order" if self.call_order or row.links == "order" else "dataflow",
        )


def load_source(
    path: str | Path,
    split: str = "val",
    registry: str | Path | None = None,
    profiling: str | Path | None = None,
    limit: int | None = None,
    held_out: Collection[str] = (),
) -> EvalSource:
    """Reads ``NAME.jsonl`` and finds what belongs to it.

    * Registry: the one given, else ``NAME.tools.json`` beside it, else that of the longest ``NAME`` prefix before an
      underscore (``metatool_multi`` borrows from ``metatool``), else the shipped one.
    * Profiles: those given; the shipped ones with the shipped registry; otherwise none.
    * Rows to learn from: those of split ``train`` in the same file, in ``train.jsonl`` beside our own files, or in the
      set whose registry is borrowed.

    Tools of ``held_out`` were kept out of training: rows that name one are not learnt from here either.

    Raises:
        DataValidationError: A row is malformed, or no row has the split; the message says which splits there are.
    """
    path = Path(path)
    rows = _rows(path)
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        splits = ", ".join(f"{name or 'none'} ({count})" for name, count in Counter(r.split for r in rows).items())
        log = FindingLog.of(path)
        log.error(f"must hold rows of split {split!r}; splits here: {splits or 'no rows at all'}")
        log.finish()
    own = path.parent.name == OWN_FOLDER
    name = f"own_{path.stem}" if own else path.stem
    family = path if own else _family(path)
    tools = Path(registry) if registry is not None else family.with_name(f"{family.stem}.tools.json")
    shipped = not tools.exists() and registry is None
    known = load_tool_registry(registry_path() if shipped else tools)
    if profiling is None and shipped and own:
        profiling = profiling_path()
    learnt = rows if family == path and not own else _training_rows(path if own else family)
    training = tuple(r for r in learnt if r.split == "train" and not any(step.tool in held_out for step in r.steps))
    complete, notes = _with_missing_tools(known, chosen)
    return EvalSource(
        name=name,
        rows=tuple(chosen[:limit]),
        training=training,
        registry=complete,
        profiling=None if profiling is None else load_profiling_matrix(profiling, known),
        edges_known=path.stem not in NO_EDGES,
        call_order=path.stem in CALL_ORDER,
        notes=notes,
        unseen=unmet_tools(complete, training),
        trained_as=_trained_as(path, family, own),
    )


def gold_shape(row: Row) -> PlanShape:
    """The plan of a row."""
    return PlanShape(tuple(step.tool for step in row.steps), tuple(step.depends_on for step in row.steps))


def is_gate_only(rows: Iterable[Row]) -> bool:
    """Whether rows say that a tool is needed without saying which."""
    return any(row.needs_tool and not row.steps for row in rows)


def unmet_tools(registry: ToolRegistry, training: Iterable[Row]) -> frozenset[str]:
    """Tools that no training row names, nor any of their twins."""
    named = {step.tool for row in training for step in row.steps}
    groups = {registry[tool].group for tool in named if tool in registry} - {None}
    return frozenset(tool.name for tool in registry if tool.name not in named and tool.group not in groups)


def _trained_as(path: Path, family: Path, own: bool) -> str:
    """Our own requests are the source ``own``; their held-out worlds have tools of their own, and so a name."""
    return "own" if own and not path.with_name(f"{path.stem}.tools.json").exists() else family.stem


def _family(path: Path) -> Path:
    """The data file whose registry serves ``path``: itself, or the set that it is a variant of."""
    stem = path.stem
    while stem:
        candidate = path.with_name(f"{stem}.jsonl")
        if candidate.with_name(f"{stem}.tools.json").exists():
            return candidate
        stem = stem.rpartition("_")[0]
    return path


def _training_rows(path: Path) -> Sequence[Row]:
    """Rows of the borrowed set, or of ``train.jsonl`` beside our own files."""
    beside = path.with_name("train.jsonl") if path.parent.name == OWN_FOLDER else path
    return _rows(beside) if beside.exists() else ()


def _rows(path: Path) -> list[Row]:
    """Rows with tool names as a registry holds them, without white space around."""
    return [
        replace(row, steps=tuple(replace(step, tool=step.tool.strip()) for step in row.steps))
        for row in load_rows(path)
    ]


def _with_missing_tools(registry: ToolRegistry, rows: Iterable[Row]) -> tuple[ToolRegistry, tuple[str, ...]]:
    """Some sets name tools that their registry lacks; they are added under their bare name, and that is reported."""
    named = (tool for row in rows for tool in (*(s.tool for s in row.steps), *(row.candidates or ())))
    missing = [tool for tool in dict.fromkeys(named) if tool not in registry]
    if not missing:
        return registry, ()
    added = [ToolSpec(name=tool, desc=" ".join(words(tool)) or tool) for tool in missing]
    note = f"{len(missing)} tools that rows name are not in the registry; added with their name as description"
    return ToolRegistry([*registry.tools, *added]), (note,)
