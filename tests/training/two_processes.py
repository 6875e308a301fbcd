"""Run twice at once by ``test_processes.py``: trains a tiny model and writes what each process ended with.

Then ``tomas train`` runs in the same processes, which have met already.

accelerate launch --multi_gpu --num_processes 2 two_processes.py FOLDER
"""

from __future__ import annotations

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
