"""Against the members and types that Amazon's description of the API has (botocore 1.44)."""

from __future__ import annotations

from tests.targets.plans import CPU, GPU, amounts, configured

STRUCTURES = {
    "ContainerDefinition": {
        "name": str, "image": str, "cpu": int, "memory": int, "environment": ["KeyValuePair"],
        "resourceRequirements": ["ResourceRequirement"],
    },
    "KeyValuePair": {"name": str, "value": str},
    "ResourceRequirement": {"type": str, "value": str, "sharingStrategy": "SharingStrategy"},
    "SharingStrategy": {"nvidiaMps": "NvidiaMpsAllocation"},
    "NvidiaMpsAllocation": {"memory": int, "maxComputePercent": int},
}  # fmt: skip
REQUIRED = {"ResourceRequirement": {"type"}, "NvidiaMpsAllocation": {"memory"}}


def check(value, structure):
    if isinstance(structure, list):
        for member in value:
            check(member, structure[0])
    elif isinstance(structure, str):
        assert REQUIRED.get(structure, set()) <= value.keys()
        for name, member in value.items():
            check(member, STRUCTURES[structure][name])
    else:
        assert type(value) is structure


def definition(*configs, step="s1"):
    made = configured(*configs).to_ecs()[step].options
    check(made, "ContainerDefinition")
    return made


def test_definition_when_checked_counts_cores_in_1024ths_and_memory_in_mib():
    made = definition(CPU)
    assert (made["cpu"], made["memory"]) == (1536, 2356)
    assert "resourceRequirements" not in made


def test_definition_when_the_step_shares_a_gpu_asks_for_memory_and_a_share():
    (requirement,) = definition(CPU, GPU, step="s2")["resourceRequirements"]
    assert requirement["type"] == "GPU"
    assert requirement["sharingStrategy"]["nvidiaMps"] == {"memory": 6349, "maxComputePercent": 31}


def test_definition_when_the_step_needs_a_share_alone_still_has_the_memory_that_is_required():
    (requirement,) = definition(amounts(gpu_sm=50))["resourceRequirements"]
    assert requirement["sharingStrategy"]["nvidiaMps"]["memory"] == 1
