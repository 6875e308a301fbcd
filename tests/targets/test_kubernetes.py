"""Against the models of the Kubernetes client, which are made from the API's own description."""

from __future__ import annotations

from decimal import Decimal

import pytest
import yaml
from kubernetes.client import ApiClient, V1Job
from kubernetes.utils.quantity import parse_quantity

from tests.targets.plans import CPU, GPU, amounts, configured
from tomas_router.targets.exported import TargetError
from tomas_router.targets.kubernetes import GPU_SHARINGS
from tomas_router.targets.written import exported, written

GIB = 2**30


def accepted(manifest: dict) -> V1Job:
    """The Job, read strictly: what the models do not know would be missing when it is written again."""
    job = V1Job.from_dict(manifest)
    assert ApiClient().sanitize_for_serialization(job) == manifest
    return job


def asked(plan, step="s1", **settings) -> dict[str, Decimal]:
    job = accepted(plan.to_kubernetes(**settings)[step].options)
    resources = job.spec.template.spec.containers[0].resources
    assert resources.requests == resources.limits
    return {name: parse_quantity(amount) for name, amount in resources.limits.items()}


@pytest.mark.parametrize("gpu", GPU_SHARINGS)
def test_job_when_read_by_the_clients_models_is_the_same_and_asks_for_what_the_plan_holds(gpu):
    plan = configured(CPU, GPU)
    assert asked(plan, gpu=gpu) == {"cpu": Decimal("1.5"), "memory": Decimal(2356) * 2**20}
    on_gpu = asked(plan, "s2", gpu=gpu)
    assert on_gpu["cpu"] == Decimal("0.07")
    assert on_gpu["memory"] == 4 * GIB


def test_job_when_a_field_is_unknown_would_not_pass_the_strict_reading():
    manifest = configured(CPU).to_kubernetes()["s1"].options
    manifest["spec"]["activeDeadlineSecond"] = 3
    with pytest.raises(AssertionError):
        accepted(manifest)


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("whole", {"nvidia.com/gpu": 1}),
        ("mig", {"nvidia.com/mig-3g.40gb": 1}),
        ("hami", {"nvidia.com/gpu": 1, "nvidia.com/gpumem": 6349, "nvidia.com/gpucores": 31}),
    ],
)
def test_gpu_when_shared_is_asked_for_in_whole_numbers_rounded_up(gpu, expected):
    found = asked(configured(CPU, GPU), "s2", gpu=gpu)
    assert {name: amount for name, amount in found.items() if name.startswith("nvidia")} == expected


def test_hami_when_memory_or_share_is_zero_asks_for_the_other_alone():
    assert "nvidia.com/gpumem" not in asked(configured(amounts(gpu_sm=10)), gpu="hami")
    assert "nvidia.com/gpucores" not in asked(configured(amounts(gpu_mem_gb=10)), gpu="hami")


def test_limits_when_the_plan_needs_nothing_are_never_zero_which_would_be_no_limit():
    assert all(amount > 0 for amount in asked(configured(amounts(cpu_core=0, cpu_mem_gb=0))).values())


def test_deadline_when_the_step_has_a_time_limit_is_that_plus_the_margin():
    plan = configured(CPU)
    plan = plan.model_copy(update={"steps": (plan.steps[0].model_copy(update={"timeout_ms": 4001}),)})
    assert plan.to_kubernetes()["s1"].options["spec"]["activeDeadlineSeconds"] == 65
    assert plan.to_kubernetes(startup_s=0)["s1"].options["spec"]["activeDeadlineSeconds"] == 5
    plan = plan.model_copy(update={"steps": (plan.steps[0].model_copy(update={"timeout_ms": None}),)})
    exported_step = plan.to_kubernetes()["s1"]
    assert "activeDeadlineSeconds" not in exported_step.options["spec"]
    assert "timeout_ms" not in [note.field for note in exported_step.notes]


def test_job_when_named_by_a_strange_tool_has_a_name_that_kubernetes_takes():
    plan = configured(CPU)
    for tool, prefix in {"Über/Tool::v2": "ber-tool-v2-s1-", "???": "tool-s1-", "x" * 99: f"{'x' * 50}-s1-"}.items():
        renamed = plan.model_copy(update={"steps": (plan.steps[0].model_copy(update={"tool_name": tool}),)})
        assert renamed.to_kubernetes()["s1"].options["metadata"]["generateName"] == prefix


def test_images_when_given_by_tool_are_used_and_one_that_is_missing_is_named():
    plan = configured(CPU, GPU)
    jobs = plan.to_kubernetes(image={"tool_1": "a:1", "tool_2": "b:2"}, namespace="agents")
    assert [accepted(j.options).spec.template.spec.containers[0].image for j in jobs.values()] == ["a:1", "b:2"]
    assert jobs["s1"].options["metadata"]["namespace"] == "agents"
    with pytest.raises(TargetError, match="s2: there is no image for tool_2, only for tool_1"):
        plan.to_kubernetes(image={"tool_1": "a:1"})


def test_gpu_sharing_when_unknown_is_refused():
    with pytest.raises(TargetError, match="whole, mig, hami, got 'half'"):
        configured(CPU).to_kubernetes(gpu="half")


def test_file_when_written_holds_every_job_as_yaml():
    plan = configured(CPU, GPU)
    text = written(plan, "kubernetes", exported(plan, "kubernetes", gpu="hami"))
    assert [accepted(job).metadata.labels["tomas-router/step"] for job in yaml.safe_load_all(text)] == ["s1", "s2"]
