from typing import Any

import pytest

from tomas_router.schema.json_schema import CONTRACTS, json_schema
from tomas_router.schema.plan import PLACED_FIELDS

pytestmark = pytest.mark.m0


@pytest.mark.parametrize("name", CONTRACTS)
def test_json_schema_when_asked_describes_the_contract_and_refuses_unknown_fields(name: str) -> None:
    schema = json_schema(name)
    assert schema["$schema"].startswith("https://json-schema.org/")
    objects = [d for d in (schema, *schema.get("$defs", {}).values()) if d.get("type") == "object"]
    assert objects
    assert all(d["additionalProperties"] is False for d in objects)


def test_json_schema_when_the_name_is_unknown_lists_the_names() -> None:
    with pytest.raises(ValueError, match="plan, registry, request, profiling, manifest, got 'plans'"):
        json_schema("plans")


def test_plan_schema_when_read_alone_says_what_the_status_decides() -> None:
    rules: dict[str, Any] = {r["if"]["properties"]["status"]["const"]: r["then"] for r in json_schema("plan")["allOf"]}
    assert set(rules) == {"planned", "no_tool", "infeasible"}
    assert tuple(rules["planned"]["properties"]["steps"]["items"]["required"]) == PLACED_FIELDS
    assert rules["no_tool"]["properties"]["steps"] == {"maxItems": 0}


def test_profiling_schema_when_read_has_units_and_ranges() -> None:
    fields = json_schema("profiling")["properties"]
    assert fields["gpu_sm"]["maximum"] == 100
    assert fields["latency_ms"]["exclusiveMinimum"] == 0
    assert "GiB" in fields["cpu_mem_gb"]["description"]
