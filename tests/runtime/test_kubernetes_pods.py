"""Amounts against the client's own parser, pods against the scheduler's rules."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import ApiClient, V1Pod
from kubernetes.utils.quantity import parse_quantity

from tests.runtime.kubernetes_answers import container, pod, sidecar
from tomas_router.runtime.kubernetes_pods import pod_requests, quantity

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
NUMBERS = st.decimals(0, 10**6, places=3).map(str) | st.integers(0, 10**9).map(str)


@given(NUMBERS, st.sampled_from(SUFFIXES))
def test_quantity_when_it_has_a_suffix_is_what_the_client_reads(number, suffix):
    assert quantity(number + suffix) == parse_quantity(number + suffix)


@pytest.mark.parametrize(
    ("text", "value"), [("1e3", "1000"), ("1.5E2", "150"), ("12e-1", "1.2"), ("1E", "1e18"), (".5", "0.5"), ("2.", "2")]
)
def test_quantity_when_it_has_an_exponent_or_no_digit_on_one_side_is_read(text, value):
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1.2.3", "Mi", "1 Gi", "1mi", "0x10", "1e", "one"])
def test_quantity_when_it_is_none_is_refused(text):
    with pytest.raises(ValueError, match="a quantity must look like 250m"):
        quantity(text)


CASES = {
    "containers add up": (pod(container(cpu="250m", memory="1Gi"), container("b", cpu="1")), "1.25", 2**30),
    "requests may be missing": (pod(container()), "0", 0),
    "the largest step of starting counts where it is more": (
        pod(container(cpu="1"), init=[container("i", cpu="2", memory="64Mi"), container("j", cpu="500m")]),
        "2",
        2**26,
    ),
    "starting is over before containers run": (pod(container(cpu="1"), init=[container("i", cpu="600m")]), "1", 0),
    "sidecars run on": (pod(container(cpu="1"), init=[sidecar("s", cpu="500m", memory="1Mi")]), "1.5", 2**20),
    "what starts beside earlier sidecars": (
        pod(container(cpu="1"), init=[sidecar("s", cpu="500m"), container("i", cpu="2"), sidecar("t", cpu="100m")]),
        "2.5",
        0,
    ),
    "the pod's own request stands for the sum": (
        pod(container(cpu="1", memory="1Mi"), resources={"requests": {"cpu": "3"}}),
        "3",
        2**20,
    ),
    "overhead comes on top": (
        pod(container(cpu="1"), overhead={"cpu": "250m", "memory": "120Mi"}),
        "1.25",
        120 * 2**20,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_pod_when_counted_is_what_the_scheduler_counts(case):
    given_pod, cores, memory = CASES[case]
    assert ApiClient().sanitize_for_serialization(V1Pod.from_dict(given_pod)) == given_pod  # a pod of the API
    found = pod_requests(given_pod)
    assert found["cpu"] == Decimal(cores)
    assert found["memory"] == memory


def test_pod_when_it_is_being_resized_counts_with_the_larger_amount():
    resized = pod(container(cpu="1", memory="1Gi"))
    status = {"name": "main", "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"memory": "3Gi"}}}
    resized["status"]["containerStatuses"] = [status]
    assert pod_requests(resized) == {"cpu": Decimal(2), "memory": Decimal(3 * 2**30)}
