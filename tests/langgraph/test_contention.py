"""The contention benchmark, short: two agents in two processes on one ledger."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain")

from benchmarks.contention import DEVICE_MIB, race


def test_agents_when_they_share_a_ledger_never_ask_the_device_for_more_than_it_has():
    outcome = race("Tomas Router", 0.2)
    assert (outcome.finished, outcome.refused) == (6, 0)
    assert outcome.most_wanted_mib <= DEVICE_MIB


def test_agents_when_nothing_holds_them_back_do():
    assert race("naive", 2.0).refused > 0
