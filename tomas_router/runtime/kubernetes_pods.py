"""What Kubernetes' amounts mean, and what a pod takes off its node.

A pod counts as the scheduler counts it: the sum of its containers and sidecars, or what starting it takes where that
is more, plus its overhead. https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

Amounts = Counter[str]
"""By resource: cores, bytes, or devices. Values are ``Decimal``; a Counter adds them and knows no missing ones."""

QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE])?)")
SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def quantity(text: str | int | float) -> Decimal:
    """Reads ``250m``, ``1.5``, ``128Mi``, ``2G`` or ``1e3``.

    Raises:
        ValueError: it is none.
    """
    match = QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"a quantity must look like 250m, 1.5, 128Mi, 2G or 1e3, got {text!r}")
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Decimal(number + exponent)
    if suffix in BINARY:
        return Decimal(number) * Decimal(1024 ** BINARY[suffix])
    return Decimal(number).scaleb(SUFFIXES[suffix or ""])


def amounts(given: Mapping[str, str] | None) -> Amounts:
    """Quantities by resource.

    Raises:
        ValueError: one of them is none.
    """
    return Counter({name: quantity(text) for name, text in (given or {}).items()})


def pod_requests(pod: Mapping[str, Any]) -> Amounts:
    """What the scheduler takes off the node for a pod.

    Raises:
        ValueError: an amount is none.
    """
    spec, status = pod["spec"], pod.get("status") or {}
    running = _sum(_requests(spec.get("containers"), status.get("containerStatuses")))
    sidecars, starting = Counter[str](), Counter[str]()
    init = spec.get("initContainers") or []
    for container, own in zip(init, _requests(init, status.get("initContainerStatuses")), strict=True):
        if container.get("restartPolicy") == "Always":  # a sidecar runs on
            running = running + own
            sidecars = sidecars + own
            starting = starting | sidecars
        else:
            starting = starting | (own + sidecars)
    needed = running | starting
    of_the_pod = amounts((spec.get("resources") or {}).get("requests"))  # stands for the sum where it is given
    return Counter({**needed, **of_the_pod}) + amounts(spec.get("overhead"))


def _requests(
    containers: Sequence[Mapping[str, Any]] | None, statuses: Sequence[Mapping[str, Any]] | None
) -> list[Amounts]:
    """Of each container; while one is being resized, the larger of what it has and what it wants."""
    has = {status["name"]: status for status in statuses or []}
    found = []
    for container in containers or []:
        status = has.get(container["name"], {})
        wanted = amounts((container.get("resources") or {}).get("requests"))
        allocated = amounts(status.get("allocatedResources"))
        actual = amounts((status.get("resources") or {}).get("requests"))
        found.append(wanted | allocated | actual)
    return found


def _sum(parts: Sequence[Amounts]) -> Amounts:
    total = Counter[str]()
    for part in parts:
        total = total + part
    return total
