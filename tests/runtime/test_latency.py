from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomas_router.runtime.latency import DECISION, LatencyMLP, LatencyPredictor, LatencyTable, latency_features
from tomas_router.schema.profiling import ProfilingTable, ResourceConfig

pytestmark = pytest.mark.m2

GPU = ResourceConfig(cpu_core=1, cpu_mem_gb=1, gpu_sm=50, gpu_mem_gb=4)
TABLE = LatencyTable({"ocr": 1000.0, DECISION: 80.0})


def passthrough_network() -> LatencyMLP:
    """One layer that returns the sixth feature: log1p of the table's milliseconds, plus log 2."""
    weight = np.zeros((6, 1), dtype=np.float32)
    weight[5, 0] = 1
    bias = np.array([np.log(2)], dtype=np.float32)
    return LatencyMLP((weight,), (bias,), np.zeros(6, dtype=np.float32), np.ones(6, dtype=np.float32))


def test_default_mode_is_fixed_at_500_ms() -> None:
    assert LatencyPredictor().t_inf_ms() == 500
    assert LatencyPredictor().step_ms("anything", "large") == 500


def test_t_inf_is_the_measured_p95_when_known() -> None:
    assert LatencyPredictor(measured_p95_ms=31.2).t_inf_ms() == 32


@pytest.mark.parametrize(("size", "expected"), [("small", 500), ("medium", 1000), ("large", 2000)])
def test_rule_scales_the_table_by_size(size: str, expected: int) -> None:
    assert LatencyPredictor("rule", table=TABLE).step_ms("ocr", size) == expected


def test_rule_takes_30_percent_off_on_a_gpu() -> None:
    assert LatencyPredictor("rule", table=TABLE).step_ms("ocr", "medium", GPU) == 700


def test_rule_has_a_documented_value_for_unlisted_tools() -> None:
    assert LatencyPredictor("rule", table=TABLE).step_ms("new", "large") == 1000


def test_rule_mode_reads_t_inf_from_the_decision_entry() -> None:
    assert LatencyPredictor("rule", table=TABLE).t_inf_ms("large") == 160


def test_mode_switches_on_a_copy() -> None:
    fixed = LatencyPredictor(table=TABLE, network=passthrough_network())
    assert fixed.with_mode("rule").step_ms("ocr") == 1000
    assert fixed.with_mode("learned").step_ms("ocr") == pytest.approx(2001, abs=1)
    assert fixed.step_ms("ocr") == 500


def test_table_update_changes_the_next_prediction() -> None:
    predictor = LatencyPredictor("rule", table=TABLE)
    assert predictor.with_table(TABLE.updated("ocr", 40.0)).step_ms("ocr") == 40
    assert predictor.step_ms("ocr") == 1000


def test_observed_run_moves_the_average_at_medium_size_on_cpu() -> None:
    seen = TABLE.observed("ocr", "large", uses_gpu=False, measured_ms=4000, weight=0.5)
    assert seen.predict_ms("ocr", "medium", uses_gpu=False) == pytest.approx(1500)
    assert TABLE.observed("new", "small", uses_gpu=True, measured_ms=35).medium_cpu_ms["new"] == pytest.approx(100)


def test_table_from_profiling_undoes_size_and_gpu() -> None:
    row = {"tool": "ocr", "cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}
    profiling = ProfilingTable.from_rows(
        [
            {**row, "input_size": "small", "latency_ms": 50},
            {**row, "input_size": "medium", "latency_ms": 100},
            {**row, "input_size": "large", "latency_ms": 140, "gpu_sm": 50},
        ]
    )
    assert LatencyTable.from_profiling(profiling).medium_cpu_ms["ocr"] == pytest.approx(100)


def test_learned_mode_matches_a_hand_computed_network() -> None:
    rng = np.random.default_rng(0)
    weights = tuple(rng.normal(size=s).astype(np.float32) for s in ((6, 8), (8, 8), (8, 1)))
    biases = tuple(rng.normal(size=w.shape[1]).astype(np.float32) for w in weights)
    network = LatencyMLP(weights, biases, np.full(6, 0.5, np.float32), np.full(6, 2.0, np.float32))
    features = latency_features(1000.0, "large", GPU)
    hidden = (features - 0.5) / 2.0
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = np.maximum(weight.T @ hidden + bias, 0)
    expected = max(float(np.expm1(np.clip((weights[-1].T @ hidden + biases[-1])[0], 0, 25))), 1.0)
    assert network.predict_ms(features[None])[0] == pytest.approx(expected, rel=1e-4)


def test_network_survives_a_round_trip_through_npz(tmp_path: Path) -> None:
    network = passthrough_network()
    path = tmp_path / "latency.npz"
    np.savez(path, weight_0=network.weights[0], bias_0=network.biases[0], offset=network.offset, scale=network.scale)
    features = latency_features(1000.0, "medium", None)[None]
    assert LatencyMLP.from_npz(path).predict_ms(features) == pytest.approx(network.predict_ms(features))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LatencyPredictor("learned"), "mode 'learned' needs a network"),
        (lambda: LatencyPredictor("psychic"), "mode must be 'fixed', 'rule' or 'learned', got 'psychic'"),
        (lambda: LatencyPredictor(fixed_ms=0), "fixed_ms must be a finite number > 0, got 0"),
        (lambda: LatencyTable({"ocr": -1.0}), "ocr must be a finite number > 0 ms, got -1.0"),
        (
            lambda: LatencyMLP((np.zeros((5, 1)),), (np.zeros(1),), np.zeros(6), np.ones(6)),
            "weights must lead from 6 features to 1 value",
        ),
    ],
)
def test_invalid_settings_are_named(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
