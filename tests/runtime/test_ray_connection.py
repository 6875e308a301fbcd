from __future__ import annotations

import sys

import pytest

from tests.executors.local_tools import TARGET
from tests.executors.plans import plan_of
from tomas_router.errors import MissingExtraError
from tomas_router.executors.ray_executor import RayExecutor
from tomas_router.runtime.ray_connection import RayNotConnectedError
from tomas_router.runtime.ray_ledger import RayLedger
from tomas_router.runtime.ray_source import RaySource

USES = [lambda: RayExecutor(TARGET).execute(plan_of("add", args={"s1": {"a": 1}})), RayLedger, RaySource]


@pytest.mark.parametrize("use", USES, ids=["executor", "ledger", "source"])
def test_ray_when_it_is_not_installed_names_the_extra(use, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'needs Ray: pip install "tomas-router\[ray\]"'):
        use()


@pytest.mark.parametrize("use", USES, ids=["executor", "ledger", "source"])
def test_ray_when_there_is_no_connection_says_how_to_make_one(use):
    with pytest.raises(RayNotConnectedError, match=r"call ray\.init\(\)"):
        use()
