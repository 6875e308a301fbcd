"""Measures tools one after another, keeping what was measured before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tomas_router.profiling.configuration import Configuration
from tomas_router.profiling.gain import worth_a_row
from tomas_router.profiling.machine import enforcement, this_machine, this_software
from tomas_router.profiling.measure import Cell, measure
from tomas_router.profiling.measurement import Measurement
from tomas_router.profiling.results import Profile, Settings, metadata_path, read_profile, write_profile
from tomas_router.profiling.tool import ProfiledTool
from tomas_router.schema.profiling import InputSize, ProfileRow


@dataclass(frozen=True)
class Step:
    """One cell that is done."""

    measurement: Measurement
    kept: bool
    """It was measured in an earlier run."""


@dataclass(frozen=True)
class Session:
    """A table to be measured. Cells run one at a time, so that they do not disturb each other."""

    tools: Sequence[ProfiledTool]
    sizes: Sequence[InputSize]
    configurations: Sequence[Configuration]
    settings: Settings
    csv: Path

    @property
    def cells(self) -> list[Cell]:
        """Everything that is to be measured; sizes for which a tool has no input are left out."""
        s = self.settings
        return [
            Cell(s.target, tool.name, size, configuration, s.warmup, s.repeats, s.timeout_s, s.gpu_index)
            for tool in self.tools
            for size in self.sizes
            if size in tool.inputs
            for configuration in self.configurations
        ]

    def run(self, *, fresh: bool = False, retry_failed: bool = False, retry_spread: float = math.inf) -> Iterator[Step]:
        """Measures and writes, cell by cell.

        Args:
            fresh: forget an earlier profile of the same name.
            retry_failed: measure cells again that crashed, hung or ran out of memory.
            retry_spread: measure cells again whose spread was larger.

        Raises:
            ProfileMismatchError: The earlier profile is of another machine or was made with other settings.
            DataValidationError: The earlier profile cannot be read.
            MissingExtraError: psutil is not installed.
        """
        profile, changed = self._begin(fresh)
        kept = profile.kept(retry_failed, retry_spread)
        done = {m.key: m for m in profile.measurements}
        for cell in self.cells:
            key = (cell.tool, cell.input_size, str(cell.configuration))
            if key in kept:
                yield Step(kept[key], kept=True)
                continue
            done[key] = measure(cell)
            self._write(profile, done)
            yield Step(done[key], kept=False)
        if changed:
            self._write(profile, done)

    def rows(self, measurements: Sequence[Measurement]) -> list[ProfileRow]:
        """What the table holds of these cells."""
        rows = (m.row(self.settings.headroom) for m in measurements)
        return worth_a_row([row for row in rows if row is not None], self.settings.min_gain)

    def _begin(self, fresh: bool) -> tuple[Profile, bool]:
        """The profile to continue, and whether its table must be written even if no cell is new."""
        machine, path = this_machine(), metadata_path(self.csv)
        self.csv.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not fresh:
            there = read_profile(path)
            there.must_match(machine, self.settings)
            return there.model_copy(update={"settings": self.settings}), there.settings != self.settings
        new = Profile(
            measured_at=_now(),
            machine=machine,
            software=this_software(),
            enforcement=enforcement(),
            settings=self.settings,
        )
        return new, False

    def _write(self, profile: Profile, done: dict[tuple[str, str, str], Measurement]) -> None:
        now = profile.model_copy(update={"measurements": tuple(done.values()), "measured_at": _now()})
        write_profile(now, self.csv)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
