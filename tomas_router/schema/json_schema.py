"""JSON Schema of every contract, for users of other languages."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tomas_router.schema.manifest import Manifest
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfileRow
from tomas_router.schema.registry import MAX_TOOLS, ToolSpec
from tomas_router.schema.request import PlanRequest


class ToolList(BaseModel):
    """The registry in an object, as other programs write it."""

    model_config = ConfigDict(extra="forbid")

    tools: list[ToolSpec] = Field(min_length=1, max_length=MAX_TOOLS)


SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONTRACTS: dict[str, TypeAdapter[Any]] = {
    "plan": TypeAdapter(ToolPlan),
    "registry": TypeAdapter(Annotated[list[ToolSpec], Field(min_length=1, max_length=MAX_TOOLS)] | ToolList),
    "request": TypeAdapter(PlanRequest),
    "profiling": TypeAdapter(ProfileRow),
    "manifest": TypeAdapter(Manifest),
}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of a contract.

    Raises:
        ValueError: ``name`` is none of ``CONTRACTS``.
    """
    if name not in CONTRACTS:
        raise ValueError(f"schema must be one of {', '.join(CONTRACTS)}, got {name!r}")
    return {**CONTRACTS[name].json_schema(), "$schema": SCHEMA_DIALECT, "title": f"Tomas Router {name}"}
