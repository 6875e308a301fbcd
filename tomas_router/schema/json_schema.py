"""JSON Schema of every contract, for users of other languages."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfileRow
from tomas_router.schema.registry import ToolSpec
from tomas_router.schema.request import PlanRequest

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONTRACTS: dict[str, TypeAdapter[Any]] = {
    "plan": TypeAdapter(ToolPlan),
    "registry": TypeAdapter(list[ToolSpec]),
    "request": TypeAdapter(PlanRequest),
    "profiling": TypeAdapter(ProfileRow),
}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of a contract.

    Raises:
        ValueError: ``name`` is none of ``CONTRACTS``.
    """
    if name not in CONTRACTS:
        raise ValueError(f"schema must be one of {', '.join(CONTRACTS)}, got {name!r}")
    return {"$schema": SCHEMA_DIALECT, "title": f"Tomas Router {name}", **CONTRACTS[name].json_schema()}
