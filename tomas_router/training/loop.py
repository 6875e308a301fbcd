"""The training loop: seeded, resumable, with progress, logs and validation.

A run directory holds ``checkpoint/`` (the latest state, replaced atomically), ``log.jsonl`` (one line a logged step),
``tensorboard/`` (the same numbers) and, at the end, the trained checkpoint with its calibration.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tomas_router.config import RunConfig, TrainConfig
from tomas_router.datasets.timeline_generator import draw_timeline
from tomas_router.errors import TimeBudgetError
from tomas_router.features.curve import CurveScaler
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler, raw_features
from tomas_router.model.tomas_model import Decisions, EncodedTools, TeacherForcing, TOMASLLMModel
from tomas_router.planner.engine import Calibration
from tomas_router.runtime.resource_predictor import ResourcePredictor
from tomas_router.training.average import WeightAverage
from tomas_router.training.batches import NO_AUGMENTATION, T_INF_MS, Augmentation, Batch, BatchSampler
from tomas_router.training.checkpoint import Statistics, restore, save_checkpoint
from tomas_router.training.explanation import explanation_loss
from tomas_router.training.feed import Feed
from tomas_router.training.losses import DEFAULT_WEIGHTS, plan_losses, total
from tomas_router.training.modes import build_optimizer, has_frozen_text, set_mode
from tomas_router.training.prepared_rows import read_prepared
from tomas_router.training.processes import Processes
from tomas_router.training.retrieval_warmup import train_retrieval
from tomas_router.training.rounding import LayerRounding
from tomas_router.training.run_log import RunLog
from tomas_router.training.schedule import Schedule
from tomas_router.training.sources import Source, load_own, load_sources
from tomas_router.training.tensors import Limits, Prepared, ToolTensors, to_tensors
from tomas_router.training.text_states import TextStates, ToolTexts
from tomas_router.training.time_budget import CHECKPOINT, VALIDATION, Orders, TimeBudget
from tomas_router.training.whitening import standardise_inputs

LOG_EVERY = 10
VALIDATED_ROWS = 256
"""Of each source, in a validation on the way."""
STEPS, TIME = "steps", "time"
"""What a run may end by."""
LOGGED = (*DEFAULT_WEIGHTS, "gradient_norm")


class Trainer:
    """One run: everything it needs is built by ``Trainer.create`` or read back by ``resume``."""

    def __init__(
        self,
        model: TOMASLLMModel,
        config: RunConfig,
        tokenizer_path: Path,
        statistics: Statistics,
        run_dir: Path,
        device: str = "cpu",
        processes: Processes | None = None,
        budget: TimeBudget | None = None,
    ) -> None:
        assert config.train is not None
        self.processes = processes or Processes(device=device)
        self.model, self.config, self.train_config = model, config, _with_prepared(config.train)
        self.tokenizer_path, self.statistics, self.run_dir, self.device = (
            tokenizer_path,
            statistics,
            run_dir,
            device,
        )
        self.tokenizer = TextTokenizer.load(tokenizer_path)
        self.limits = Limits(
            self.train_config.max_train_task_tokens,
            self.train_config.max_train_tool_tokens,
            config.model.tool.max_rows,
            config.model.temporal.virtual_tokens,
        )
        names = list(self.train_config.mixture)
        self.sampler = BatchSampler(
            load_sources(
                names,
                self.train_config.data_dirs,
                "train",
                self.train_config.generated_rows,
                self.train_config.generated_world_rows,
                self.train_config.prepared,
            ),
            self.train_config.mixture,
            self.train_config.batch_size,
            self.train_config.pool_size,
            config.model.max_prefix_tools,
            self.train_config.seed,
            self.train_config.token_budget,
            self.train_config.max_train_task_tokens,
            Augmentation().changed(self.train_config.augmentation),
        )
        set_mode(model, self.train_config)
        rounded = model.backbone.layers if self.train_config.round_from is not None else []
        self.rounding = LayerRounding(rounded)
        self.feed = Feed(self.sampler, self.tokenizer, statistics, self.limits)
        self.states = TextStates(model.backbone) if has_frozen_text(model, self.train_config.mode) else None
        self.tool_texts = ToolTexts(model) if self.train_config.mode == "heads" else None
        self.log = RunLog(run_dir)
        self.processes.share(model)
        self.optimizer = build_optimizer(model, self.train_config)
        self.average = WeightAverage(model, self.train_config.average_decay)
        self.budget = budget
        self.schedule = Schedule(self.train_config.steps, self.train_config.warmup_steps, self.train_config.round_from)
        self.step = 0
        self.ended_by: str | None = None
        run_dir.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Trains to ``train.steps`` or the end of its time; the model then holds the averaged weights.

        Raises:
            TimeBudgetError: The time was over before the first step.
        """
        config = self.train_config
        found: dict[str, list[Tensor]] = defaultdict(list)
        started = time.monotonic()
        if self.ended_by != TIME:
            self.ended_by = None  # more steps than the run had ended with may be asked for now
        if self.budget is not None:  # what is left of the schedule is for the time that is left
            self.schedule.share, self.schedule.at = self.schedule.done(self.step), self.step
        with _progress(shown=self.processes.is_first) as progress:
            bar = progress.add_task("training", total=config.steps, completed=self._place(), loss="")
            fed = self.feed.batches(self.batch_numbers(self.step, config.steps), config.workers)
            while self.step < config.steps and self.ended_by is None:
                orders = self._orders()
                if orders.stop:
                    self.ended_by = TIME
                    break
                with self._step_timed():
                    drawn = [next(fed) for _ in range(config.gradient_accumulation)]
                    for name, value in self.train_step(drawn).items():
                        found[name].append(value)
                    self.step += 1
                    if self.step % LOG_EVERY == 0 or self.step == config.steps:
                        means = self._log_means(found, started)
                        progress.update(bar, loss=f"tool {means.get('tool', math.nan):.3f}")
                if orders.validate:
                    self._validate_and_log()
                if orders.save:
                    self.save_state()
                progress.update(bar, completed=self._place())
            fed.close()
        self._finish(found, started)

    def _finish(self, found: dict[str, list[Tensor]], started: float) -> None:
        """Keeps the last state and what the run ended by; gives the model its averaged weights."""
        if self.step == 0 and self.budget is not None:
            raise TimeBudgetError(
                f"--max-minutes {self.budget.minutes:g} left no time for a single step: {self.budget.spent_s:.0f} s "
                f"went by before it, and {self.budget.reserve_s:.0f} s are kept for what comes after the last one"
            )
        self.ended_by = self.ended_by or STEPS
        if found:
            self._log_means(found, started)
        self.save_state()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self.average.values:
                    parameter.copy_(self.average.values[name])
        self._round_layers()
        self.rounding.settle()
        if self.budget is not None and self.processes.is_first:
            self._log({"step": self.step, "validation": self.validate(VALIDATED_ROWS)})
        self._log({"step": self.step, **self.ending()})
        self.log.close()

    def ending(self) -> dict[str, Any]:
        """Why a run that is over ended, after how many steps and, under a time budget, minutes since it began."""
        record: dict[str, Any] = {"ended_by": self.ended_by, "steps": self.step}
        if self.budget is not None:
            record |= {"minutes": round(self.budget.spent_s / 60, 2), "max_minutes": self.budget.minutes}
        return record

    def _log_means(self, found: dict[str, list[Tensor]], started: float) -> dict[str, float]:
        means = self.processes.means(found, LOGGED)
        self._log({"step": self.step, "seconds": round(time.monotonic() - started, 1), **means})
        found.clear()
        return means

    def _orders(self) -> Orders:
        """What to do about the next step: as configured or, under a time budget, as the first process finds."""
        done, config = self.step + 1, self.train_config
        validate, save = done % config.validate_every == 0 and done < config.steps, done % config.checkpoint_every == 0
        if self.budget is None:
            return Orders(False, self.schedule.share, validate, save)
        orders = Orders(False, 0.0, False, False)
        if self.processes.is_first:
            orders = self.budget.orders(self.schedule.share, validate, save)
        orders = Orders.from_numbers(self.processes.first_says(orders.to_numbers()))
        self.schedule.share, self.schedule.at = orders.share, self.step
        return orders

    def _step_timed(self) -> AbstractContextManager[None]:
        return nullcontext() if self.budget is None else self.budget.step()

    def _timed(self, what: str) -> AbstractContextManager[None]:
        return nullcontext() if self.budget is None else self.budget.timed(what)

    def _place(self) -> int:
        """Where the run stands in its schedule, in steps."""
        return round(self.schedule.done(self.step) * self.train_config.steps)

    def _round_layers(self) -> None:
        self.rounding.on = self.schedule.rounds(self.step)
        self.rounding.refresh()

    def train_step(self, drawn: Sequence[Prepared] | None = None) -> dict[str, Tensor]:
        """One update on the step's own batches, drawn here unless given; returns the means of their losses."""
        config, numbers = self.train_config, self.batch_numbers(self.step, self.step + 1)
        self.model.train()
        self._set_learning_rate()
        self._round_layers()
        explain = self.step % config.explanation_every == 0
        found: dict[str, list[Tensor]] = defaultdict(list)
        self.optimizer.zero_grad(set_to_none=True)
        for number, prepared in zip(numbers, drawn or self.feed.batches(numbers, 0), strict=True):
            torch.manual_seed(config.seed * 1_000_003 + number)  # whatever ran before, also in a resumed run
            losses = self.losses(self.ready(prepared), explain)
            (total(losses, config.loss_weights) / len(numbers)).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                found[name].append(loss.detach())
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.processes.average_gradients(trainable)
        norm = nn.utils.clip_grad_norm_(trainable, config.max_grad_norm)
        self.optimizer.step()
        self.average.update(self.model)
        return {name: torch.stack(values).mean() for name, values in found.items()} | {"gradient_norm": norm}

    def batch_numbers(self, first: int, last: int) -> range:
        """The batches that this process takes in steps ``first`` to ``last`` - 1: the next one is another process's."""
        each, count = self.train_config.gradient_accumulation, self.processes.count
        return range(first * each * count + self.processes.rank, last * each * count, count)

    def _validate_and_log(self) -> None:
        with self._timed(VALIDATION):
            if self.processes.is_first:
                with self.average.applied(self.model):
                    self._round_layers()
                    self._log({"step": self.step, "validation": self.validate(VALIDATED_ROWS)})
            self.processes.wait()

    def initialise_heads(self, batches: int = 2) -> None:
        """Fits what meets the backbone's states for the first time to their size (``whitening``)."""
        if self.processes.is_first:
            self._fit_heads(batches)
        self.processes.share(self.model)

    @torch.no_grad()
    def _fit_heads(self, batches: int) -> None:
        self.model.eval()
        model, start = self.model, self.config.model.temporal.virtual_tokens
        drawn = [self.ready(self.feed[step]) for step in range(batches)]
        if model.backbone.text is not None:
            states = [model.task_states(ready.forcing)[ready.forcing.task_mask_BS] for ready in drawn]
            model.match_state_size(torch.cat(states))
        texts, sequences, curves = [], [], []
        for ready in drawn:
            tensors, forcing = ready.tools, ready.forcing
            pooled_NX = tensors.pooled_NX
            if pooled_NX is None:
                pooled_NX = model.pooled_tool_texts(tensors.ids_NL, tensors.mask_NL, tensors.states_NLD)
            texts.append(pooled_NX)
            v_temporal, virtual = model.curve_context(forcing.series_BGT4, forcing.log_horizon_B1)
            hidden = model.sequence_hidden(self.encoded(tensors), forcing, virtual, model.task_states(forcing))
            sequences.append(hidden[:, start:][forcing.layout_mask_BT[:, start:]])
            curves.append(v_temporal)
        standardise_inputs(model.tools.text.project, torch.cat(texts))
        standardise_inputs(model.classifier.curve_query, torch.cat(curves))
        model.state_norm.fit(torch.cat(sequences))

    def warm_up_retrieval(self) -> None:
        """Trains the retrieval vectors for ``train.retrieval_steps``, on the text layers as they are."""
        if self.train_config.retrieval_steps:
            if self.processes.is_first:
                self._train_retrieval()
            self.processes.share(self.model)

    def _train_retrieval(self) -> None:
        config = self.train_config
        self.model.train()
        states = TextStates(self.model.backbone) if self.states is None else self.states
        losses = train_retrieval(
            self.model,
            self.sampler.sources,
            config.mixture,
            self.tokenizer,
            states,
            self.limits,
            config.retrieval_steps,
            config.seed,
        )
        self._log({"step": 0, "retrieval_first": losses[0], "retrieval_last": float(np.mean(losses[-50:]))})

    def losses(self, ready: Prepared, explain: bool) -> dict[str, Tensor]:
        """Every loss of a batch."""
        tools, forcing, decisions = self.decide(ready)
        losses = plan_losses(decisions, ready.targets)
        if explain:
            text_loss = explanation_loss(self.model, tools, forcing, ready.batch, self.tokenizer)
            if text_loss is not None:
                losses["explanation"] = text_loss
        return losses

    def ready(self, prepared: Prepared) -> Prepared:
        """A prepared batch on the model's device, with what frozen layers say of its texts."""
        moved = prepared.to(self.device)
        if self.states is not None:
            moved = moved.with_states(self.states)
        return moved if self.tool_texts is None else moved.with_pooled(self.tool_texts)

    def ready_batch(self, batch: Batch) -> Prepared:
        """A drawn batch as the network takes it."""
        rows, curves = self.statistics.rows, self.statistics.curves
        return self.ready(to_tensors(batch, self.tokenizer, rows, curves, self.limits))

    def decide(self, ready: Prepared) -> tuple[EncodedTools, TeacherForcing, Decisions]:
        """The encoded pool, the batch with the prefixes that retrieval gives it, and what the heads say."""
        tools = self.encoded(ready.tools)
        forcing = self.model.shortlisted(tools, ready.forcing)
        return tools, forcing, self.model(tools, forcing)

    def encoded(self, tensors: ToolTensors) -> EncodedTools:
        """The pool of a batch after the left panel."""
        return self.model.encode_tools(
            tensors.ids_NL,
            tensors.mask_NL,
            tensors.rows_NR6,
            tensors.row_mask_NR,
            tensors.states_NLD,
            tensors.pooled_NX,
        )

    @torch.no_grad()
    def validate(self, limit: int = 100_000) -> dict[str, dict[str, float]]:
        """Teacher-forced accuracy per source on its validation rows, all tools of the registry as candidates.

        Only for watching a run: ``tomas eval`` decodes freely and is what counts.
        """
        self.model.eval()
        sources = load_sources(list(self.train_config.mixture), self.train_config.data_dirs, "val")
        return {name: self._validate_source(source, limit) for name, source in sources.items()}

    def _validate_source(self, source: Source, limit: int) -> dict[str, float]:
        sampler = BatchSampler(
            {source.name: source},
            {source.name: 1.0},
            64,
            400,
            self.config.model.max_prefix_tools,
            0,
            augmentation=NO_AUGMENTATION,
        )
        counts: dict[str, list[float]] = defaultdict(list)
        rows = source.rows[:limit]
        for start in range(0, len(rows), 64):
            batch = sampler.batch(source, rows[start : start + 64])
            ready = self.ready_batch(batch)
            (_, _, decisions), targets = self.decide(ready), ready.targets
            slots = targets.tool_BK1 >= 0
            right = (decisions.tool_logits_BKN.argmax(-1) == targets.tool_BK1)[slots]
            counts["slot_accuracy"] += right.float().tolist()
            counts["first_tool"] += (
                (decisions.tool_logits_BKN[:, 0].argmax(-1) == targets.tool_BK1[:, 0])[slots[:, 0]].float().tolist()
            )
            counts["twin"] += twins_right(source, batch, decisions.tool_logits_BKN)
            counts["gate"] += ((decisions.gate_B > 0) == (targets.gate_B > 0.5)).float().tolist()
            sized = targets.size_BK >= 0
            counts["size"] += (decisions.size_logits_BK3.argmax(-1) == targets.size_BK)[sized].float().tolist()
            edges = targets.depends_mask_BKK
            counts["depends"] += ((decisions.depends_BKK > 0) == (targets.depends_BKK > 0.5))[edges].float().tolist()
        return {name: round(float(np.mean(values)), 4) for name, values in counts.items() if values}

    # ---- state ------------------------------------------------------------------------------------------------

    def save_state(self) -> None:
        """Replaces ``checkpoint/`` with the present state; a cut-off run loses at most ``checkpoint_every`` steps."""
        with self._timed(CHECKPOINT):
            if self.processes.is_first:
                self._write_state()
            self.processes.wait()

    def _write_state(self) -> None:
        fresh = self.run_dir / "checkpoint.new"
        shutil.rmtree(fresh, ignore_errors=True)
        save_checkpoint(fresh, self.model, self.statistics, self.tokenizer_path, [])
        torch.save(self.optimizer.state_dict(), fresh / "optimizer.pt")
        save_file(self.average.values, fresh / "average.safetensors")
        progress: dict[str, Any] = {
            "step": self.step,
            "average_updates": self.average.updates,
            "schedule": {"share": self.schedule.share, "at": self.schedule.at},
        }
        if self.ended_by is not None:
            progress |= self.ending()
        (fresh / "progress.json").write_text(json.dumps(progress))
        target, old = self.run_dir / "checkpoint", self.run_dir / "checkpoint.old"
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.replace(old)
        fresh.replace(target)
        shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> bool:
        """Continues from ``checkpoint/`` when there is one; the numbers are those of an uninterrupted run."""
        directory = self.run_dir / "checkpoint"
        if not (directory / "progress.json").exists():
            return False
        restore(directory, self.model, self.device)
        self.optimizer.load_state_dict(
            torch.load(directory / "optimizer.pt", map_location=self.device, weights_only=True)
        )
        progress = json.loads((directory / "progress.json").read_text())
        self.average.values = load_file(directory / "average.safetensors", device=self.device)
        self.average.updates = progress["average_updates"]
        self.step, self.ended_by = progress["step"], progress.get("ended_by")
        before = progress.get("schedule", {"share": 0.0, "at": 0})
        self.schedule.share, self.schedule.at = before["share"], before["at"]
        return True

    def _set_learning_rate(self) -> None:
        warm, decay = self.schedule.warmth(self.step), self.schedule.decay(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * warm * decay

    def _log(self, record: dict[str, Any]) -> None:
        if self.processes.is_first:
            self.log.write(record)


def _with_prepared(config: TrainConfig) -> TrainConfig:
    """Public rows of a prepared file go before those of folders, also in validation and calibration."""
    if config.prepared is None or not read_prepared(config.prepared).public():
        return config
    return config.model_copy(update={"data_dirs": (config.prepared, *config.data_dirs)})


def fit_statistics(config: RunConfig) -> Statistics:
    """Scalers from the shipped training data: its profile rows, and curves of the seeded generator."""
    own = load_own("train")
    assert own.profiling is not None
    rows = [row for tool in own.profiling.tools for row in own.profiling.rows(tool)]
    rng = np.random.default_rng(0)
    curves = [ResourcePredictor(draw_timeline(rng)).window(T_INF_MS).series_GT4 for _ in range(400)]
    return Statistics(
        RowScaler.fit(raw_features(rows), config.model.tool.row_scaling),
        CurveScaler.fit(np.concatenate(curves), config.model.temporal.normalisation),
        Calibration(),
    )


def twins_right(source: Source, batch: Batch, tool_logits_BKN: Tensor) -> list[float]:
    """For every step that a twin group can do: whether the best-scored member is the one that fits the curve."""
    right = []
    for b, plan in enumerate(batch.plans):
        for k, gold in enumerate(plan):
            group = source.registry[batch.pool[gold]].group
            twins = [i for i, name in enumerate(batch.pool) if group and source.registry[name].group == group]
            if len(twins) > 1:
                right.append(float(twins[int(tool_logits_BKN[b, k, twins].argmax())] == gold))
    return right


def with_calibration(statistics: Statistics, calibration: Calibration) -> Statistics:
    """The same scalers with fitted decision thresholds."""
    return replace(statistics, calibration=calibration)


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        disable=not shown,
    )
