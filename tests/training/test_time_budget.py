"""Runs that must be over in time: the clock is a fake one, the training is real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import yaml

from tests import tiny
from tomas_router.cli.main import main as tomas
from tomas_router.errors import TimeBudgetError
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.training.checkpoint import load_checkpoint
from tomas_router.training.loop import Trainer
from tomas_router.training.time_budget import (
    CALIBRATION_SHARE,
    CHECKPOINT,
    FITTING,
    SPARE_S,
    VALIDATION,
    Orders,
    TimeBudget,
)

pytestmark = pytest.mark.m4


class Clock:
    """Stands still but for what ``waits`` tells it to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def waits(self, method: Callable[..., object], seconds: float) -> Callable[..., object]:
        def slow(*args: object, **kwargs: object) -> object:
            self.now += seconds
            return method(*args, **kwargs)

        return slow


class Timed:
    """A tiny run whose steps take 2 s of a fake clock, a validation 6 s and a checkpoint 4 s."""

    def __init__(self, folder: Path, minutes: float | None, **train: object) -> None:
        self.clock = Clock()
        budget = None if minutes is None else TimeBudget(minutes, self.clock)
        settings = {"batch_size": 2, "pool_size": 6, "steps": 1000, "validate_every": 1000, "checkpoint_every": 1000}
        config = tiny.run_config(**(settings | train))
        torch.manual_seed(0)
        model = TOMASLLMModel.from_config(config.model)
        run = Trainer(model, config, tiny.TOKENIZER, tiny.statistics(), folder, budget=budget)
        self.rates: list[float] = []
        self.saved_at: list[float] = []
        self.validated_at: list[float] = []
        train_step, write = run.train_step, self.clock.waits(run._write_state, 4.0)

        def step(drawn: object) -> object:
            self.clock.now += 2.0
            found = train_step(drawn)
            self.rates.append(max(group["lr"] / group["peak_lr"] for group in run.optimizer.param_groups))
            return found

        def validate(limit: int = 0) -> dict[str, dict[str, float]]:
            self.clock.now += 6.0
            self.validated_at.append(self.clock.now - 100.0)
            return {"own": {"gate": 0.5}}

        def write_state() -> None:
            write()
            self.saved_at.append(self.clock.now - 100.0)

        run.train_step, run.validate, run._write_state = step, validate, write_state  # type: ignore[method-assign]
        self.run = run


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_run_when_time_is_short_ends_validated_saved_and_in_time(tmp_path: Path) -> None:
    timed = Timed(tmp_path, minutes=2.0)
    timed.run.run()
    model_s, calibration_s = 4.0, CALIBRATION_SHARE * 120.0
    assert timed.clock.now - 100.0 + model_s + calibration_s + SPARE_S <= 120.0
    assert timed.clock.now - 100.0 + model_s + calibration_s > 100.0  # and uses its time
    rehearsal, last = timed.validated_at
    assert rehearsal < 25.0
    assert timed.saved_at[0] < 30.0
    assert last > timed.saved_at[-1]
    assert timed.rates[-1] == pytest.approx(0.03, abs=0.02)
    assert max(timed.rates) > 0.8  # warm at a fifth of the time, when a little has decayed
    end = records(tmp_path)[-1]
    assert (end["ended_by"], end["steps"], end["max_minutes"]) == ("time", len(timed.rates), 2.0)
    progress = json.loads((tmp_path / "checkpoint" / "progress.json").read_text())
    assert (progress["ended_by"], progress["steps"]) == ("time", len(timed.rates))
    assert "validation" in records(tmp_path)[-2]
    losses = [record["step"] for record in records(tmp_path) if "tool" in record]
    assert losses[-1] == len(timed.rates)  # steps since the last logged one are told too


def test_run_when_done_before_its_time_has_the_weights_of_a_run_without_a_clock(tmp_path: Path) -> None:
    plain = Timed(tmp_path / "plain", None, steps=4)
    clocked = Timed(tmp_path / "clocked", 60.0, steps=4)
    plain.run.run()
    clocked.run.run()
    assert plain.rates == clocked.rates
    for (name, a), (_, b) in zip(plain.run.model.named_parameters(), clocked.run.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert records(tmp_path / "clocked")[-1]["ended_by"] == records(tmp_path / "plain")[-1]["ended_by"] == "steps"


def test_run_when_ended_by_time_trains_no_further_when_it_is_called_again(tmp_path: Path) -> None:
    first = Timed(tmp_path, minutes=1.5)
    first.run.run()
    again = Timed(tmp_path, minutes=1.5)
    assert again.run.resume()
    again.run.run()
    assert again.rates == []
    for (name, a), (_, b) in zip(first.run.model.named_parameters(), again.run.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("minutes", [2.0, None])
def test_cut_off_run_when_it_goes_on_takes_up_the_schedule_where_it_stood(
    tmp_path: Path, minutes: float | None
) -> None:
    first = Timed(tmp_path, minutes=2.0, steps=60, warmup_steps=1)
    for _ in range(10):
        orders = first.run._orders()
        first.run.train_step(first.run.feed.batches(first.run.batch_numbers(first.run.step, first.run.step + 1), 0))
        first.run.step += 1
    assert orders.share > 10 / 60
    first.run.save_state()
    second = Timed(tmp_path, minutes=minutes, steps=60, warmup_steps=1)
    assert second.run.resume()
    second.run.run()
    assert second.rates[0] == pytest.approx(first.rates[-1], abs=0.05)
    assert second.rates == sorted(second.rates, reverse=True)
    assert second.rates[-1] == pytest.approx(0.03, abs=0.02)
    assert (second.run.step == 60) == (minutes is None)


def test_run_when_no_step_fits_says_so(tmp_path: Path) -> None:
    timed = Timed(tmp_path, minutes=1.0)
    timed.clock.now += 50.0
    with pytest.raises(TimeBudgetError, match=r"--max-minutes 1 left no time for a single step: 50 s .* 15 s are kept"):
        timed.run.run()


def test_orders_when_a_validation_would_not_fit_leave_it_out() -> None:
    clock = Clock()
    budget, uncalibrated = TimeBudget(1.0, clock), TimeBudget(1.0, clock, calibrates=False)
    for what in (VALIDATION, CHECKPOINT):
        with budget.timed(what), uncalibrated.timed(what):
            clock.now += 5.0
    assert budget.reserve_s == pytest.approx(27.95)
    assert uncalibrated.reserve_s == pytest.approx(27.95 - CALIBRATION_SHARE * 60)
    assert budget.orders(0.0, True, True) == Orders(False, 0.0, True, True)
    clock.now += 15.0  # 7.05 s before the reserve
    assert budget.orders(0.0, True, True) == Orders(False, pytest.approx(15 / 22.05), True, False)
    clock.now += 4.0
    assert budget.orders(0.0, True, True).validate is False
    clock.now += 5.0
    assert budget.orders(0.0, True, True) == Orders(True, 1.0, False, False)


def test_command_when_given_minutes_writes_a_model_and_notes_why_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.run_config(steps=100_000, batch_size=2, checkpoint_every=100_000, validate_every=100_000)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    out = tmp_path / "run"
    command = ["train", "--config", str(tmp_path / "tiny.yaml"), "--out", str(out), "--device", "cpu"]
    assert tomas([*command, "--max-minutes", "0.5"]) == 0  # how exactly it keeps to them is tested with a still clock
    record = json.loads((out / "final" / "training.json").read_text())
    assert record["ended_by"] == "time"
    assert 0 < record["steps"] == records(out)[-1]["steps"]
    assert record["max_minutes"] == 0.5
    assert load_checkpoint(out / "final").config == tiny.model_config()
    assert "'ended_by': 'time'" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "soon"])
def test_command_when_minutes_are_none_is_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tomas(["train", "--config", "c.yaml", "--max-minutes", minutes]) == 2
    assert f"must be minutes, over 0, got '{minutes}'" in capsys.readouterr().err


def test_items_when_time_runs_out_end_with_time_left_to_fit() -> None:
    clock = Clock()
    budget = TimeBudget(1.0, clock)
    clock.now += 20.0
    asked = []
    for item in budget.while_time_is_left(range(100)):
        asked.append(item)
        clock.now += 5.0
    assert 3 <= len(asked) < 8
    assert budget.spent_s + FITTING * 5.0 * len(asked) + SPARE_S <= 60.0
    clock.now += 100.0
    assert list(budget.while_time_is_left("ab")) == ["a"]
