"""Run twice at once by ``test_processes.py``: trains a tiny model and writes what each process ended with.

Then ``tomas train`` runs in the same processes, which have met already.

accelerate launch --multi_gpu --num_processes 2 two_processes.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from safetensors.torch import save_file

from tests import tiny
from tomas_router.cli.main import main as tomas
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.training.loop import Trainer
from tomas_router.training.processes import Processes
from tomas_router.training.time_budget import TimeBudget

SETTINGS = {"steps": 2, "batch_size": 4, "explanation_every": 2, "validate_every": 1, "retrieval_steps": 1}
"""The first step has gradients for the explanation, which the second lacks."""


def trained(folder: Path, processes: Processes, seed: int, **settings: object) -> Trainer:
    torch.set_num_threads(1)
    config = tiny.run_config(**(SETTINGS | settings))
    torch.manual_seed(seed)
    model = TOMASLLMModel.from_config(config.model)
    trainer = Trainer(model, config, tiny.TOKENIZER, tiny.statistics(), folder, "cpu", processes)
    trainer.warm_up_retrieval()
    trainer.initialise_heads(1)
    trainer.run()
    return trainer


def in_time(folder: Path, processes: Processes) -> None:
    """A run whose second process has a clock that says that there is no time: the first one's counts."""
    torch.set_num_threads(1)
    config = tiny.run_config(**(SETTINGS | {"steps": 6, "validate_every": 100, "retrieval_steps": 0}))
    ticks = iter(range(0, 10_000, 4)) if processes.is_first else iter([0] + [1_000_000] * 1000)
    budget = TimeBudget(1.0, lambda: float(next(ticks)))
    torch.manual_seed(0)
    model = TOMASLLMModel.from_config(config.model)
    trainer = Trainer(model, config, tiny.TOKENIZER, tiny.statistics(), folder, "cpu", processes, budget)
    trainer.run()
    said = {
        "steps": trainer.step,
        "ended_by": trainer.ended_by,
        "share": trainer.schedule.share,
        "sum": sum(float(p.detach().double().sum()) for p in trainer.model.parameters()),
    }
    (folder / f"said{processes.rank}.json").write_text(json.dumps(said))


def gradients(processes: Processes) -> dict[str, torch.Tensor]:
    """What averaging makes of gradients that only one process has, that both have, and that none has."""
    parameters = {name: torch.nn.Parameter(torch.zeros(2, 3)) for name in ("both", "first", "none")}
    parameters["both"].grad = torch.full((2, 3), 1.0 + 2.0 * processes.rank)
    if processes.is_first:
        parameters["first"].grad = torch.full((2, 3), 6.0)
    processes.average_gradients(list(parameters.values()))
    return {name: p.grad for name, p in parameters.items() if p.grad is not None}


def main(folder: Path) -> None:
    processes = Processes.join("cpu")
    in_time(folder / "in_time", processes)
    save_file(gradients(processes), folder / f"gradients{processes.rank}.safetensors")
    trainer = trained(folder / "run", processes, seed=processes.rank)
    save_file(
        {name: p.detach().clone() for name, p in trainer.model.named_parameters()},
        folder / f"weights{processes.rank}.safetensors",
    )
    command = ["train", "--config", str(folder / "tiny.yaml"), "--out", str(folder / "command"), "--device", "cpu"]
    assert tomas(command) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
