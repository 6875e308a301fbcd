"""The two files of a profile: the table that planning reads, and beside it everything else that was measured.

Both are written anew after every cell, whole or not at all, so an interrupted run loses one cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomas_router.errors import TomasRouterError
from tomas_router.profiling.gain import worth_a_row
from tomas_router.profiling.machine import Machine, Software
from tomas_router.profiling.measurement import Measurement
from tomas_router.schema.findings import FindingLog
from tomas_router.schema.json_text import read_json
from tomas_router.schema.profiling import ProfilingTable

METADATA_SUFFIX = ".meta.json"


class ProfileMismatchError(TomasRouterError, ValueError):
    """A profile cannot be continued: what is there was measured otherwise."""


class Settings(BaseModel):
    """How the runs of every cell were made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    target: str
    warmup: int = Field(ge=0, description="runs that are not timed")
    repeats: int = Field(ge=1, description="runs that are")
    timeout_s: float = Field(gt=0, description="of one call")
    headroom: float = Field(ge=0, description="share added to measured memory in the table")
    min_gain: float = Field(ge=0, description="a costlier configuration gets a row if it is faster by more than this")
    gpu_index: int = Field(default=0, ge=0)


class Profile(BaseModel):
    """The content of the metadata file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal["1.0"] = "1.0"
    measured_at: str = Field(description="ISO 8601, of the last change")
    machine: Machine
    software: Software
    enforcement: dict[str, str]
    latency: str = "median of the runs"
    settings: Settings
    measurements: tuple[Measurement, ...] = ()

    def table(self) -> ProfilingTable:
        """The rows of all cells that were measured and are worth one."""
        rows = (measurement.row(self.settings.headroom) for measurement in self.measurements)
        return ProfilingTable(worth_a_row([row for row in rows if row is not None], self.settings.min_gain))

    def kept(self, retry_failed: bool, retry_spread: float) -> dict[tuple[str, str, str], Measurement]:
        """The cells that need not be measured again; what this machine could not offer is always tried again."""
        again = {"unavailable"} | ({"failed", "crashed", "timed_out", "out_of_memory"} if retry_failed else set())
        kept = (m for m in self.measurements if m.status not in again)
        return {m.key: m for m in kept if m.status != "ok" or m.spread <= retry_spread}

    def must_match(self, machine: Machine, settings: Settings) -> None:
        """Checks that new cells may stand beside the old ones.

        Raises:
            ProfileMismatchError: Another machine, or other settings.
        """
        asked: Mapping[str, object] = {**machine.model_dump(), **settings.model_dump()}
        there: Mapping[str, object] = {**self.machine.model_dump(), **self.settings.model_dump()}
        for name in ("cpu_model", "architecture", "gpus", "target", "warmup", "repeats"):
            if asked[name] != there[name]:
                raise ProfileMismatchError(
                    f"the profile was measured with {name} {there[name]!r}, now it is {asked[name]!r}: "
                    "choose another --out, or measure everything again with --fresh"
                )


def metadata_path(csv: Path) -> Path:
    """``profiling.meta.json`` for ``profiling.csv``."""
    return csv.with_suffix(METADATA_SUFFIX)


def read_profile(path: Path) -> Profile:
    """Reads a metadata file.

    Raises:
        DataValidationError: Lists everything that is wrong with it.
    """
    log = FindingLog.of(path)
    read = read_json(path, log)
    log.finish()
    assert read is not None, "otherwise there was a finding"
    try:
        return Profile.model_validate_json(json.dumps(read[1]))
    except ValidationError as error:
        log.pydantic(error, None)
        log.finish()
        raise


def write_profile(profile: Profile, csv: Path) -> None:
    """Writes the table and the metadata beside it; a table without rows is not written, nothing could read it."""
    _replace(metadata_path(csv), lambda path: path.write_text(_as_json(profile), encoding="utf-8"))
    table = profile.table()
    if len(table):
        _replace(csv, table.to_csv)
    else:
        csv.unlink(missing_ok=True)


def _as_json(profile: Profile) -> str:
    """A line a measurement, so that two profiles can be compared line by line."""
    head = json.dumps(profile.model_dump(mode="json", exclude={"measurements"}), indent=1, ensure_ascii=False)
    lines = ",\n".join(f"  {measurement.model_dump_json()}" for measurement in profile.measurements)
    return f'{head.removesuffix("}").rstrip()},\n "measurements": [\n{lines}\n ]\n}}\n'


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    partial.replace(path)
