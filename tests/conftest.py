"""Rules that hold for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.shared_resources import ABSENT

if find_spec("hypothesis") is not None:  # absent in the torch-free environment
    from hypothesis import settings

    # Seeds are fixed, and a busy machine is no failure.
    settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
    settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Encoded tools are shared by the tests of a run, and never taken from an earlier one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOMAS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """In continuous integration a skipped test fails: a skip there is a hole in what was proved.

    Reference material beside the checkout is no part of it, so its absence is the exception.
    """
    report = yield
    if report.skipped and ABSENT in str(report.longrepr):
        return report
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("TOMAS_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which continuous integration does not allow: {report.longrepr}"
    return report
