"""Takes twenty steps of each of several tiny runs, first in one process, then in all that were started.

    process_worker.py OUT VARIANTS        VARIANTS: JSON, the keys of the configuration by the name of the run

The first process writes to OUT what it saw, by the same names: of the run alone, and of that together.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import wrn.training.parts as parts
from tiny import Recorder, tiny_config, tiny_dataset
from wrn.config import run_paths
from wrn.distributed.environment import place
from wrn.distributed.processes import Processes, join
from wrn.model import WideResNet
from wrn.training.run import prepare


def freeze_bn(model: nn.Module, mode: bool = True) -> nn.Module:
    """`train()`, but BN keeps its statistics."""
    nn.Module.train(model, mode)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training = False
    return model


def twenty_steps(output: Path, keys: dict[str, Any], processes: Processes) -> dict[str, Any]:
    torch.compiler.reset()
    epochs = {"epochs": 5, "dropout": 0.0, "amp": False, "lr": 0.02, "muon_lr": 0.005, "checkpoint_epochs": 0}
    config = tiny_config(output, **{**epochs, **keys})
    paths = processes.first_does(lambda: run_paths(config, "tiny", {"SAGEMAKER_BASE_DIR": "/nowhere"}))
    paths.run.mkdir(parents=True, exist_ok=True)
    trainer, _, _ = prepare(config, paths, Recorder(), processes, torch.device("cpu"))
    trainer.model.train()
    losses, images = [], []
    for step, batch in enumerate(trainer._loader.batches(0, 20)):
        before = trainer._train_step.meters.total()
        trainer._train_step(step, batch)
        after = trainer._train_step.meters.total()
        losses.append(((after[0] - before[0]) / (after[2] - before[2])).item())
        images.append((after[2] - before[2]).item())
    return {
        "steps": len(losses),
        "losses": losses,
        "images": images,
        "test": trainer.evaluate(tiny_dataset().test).plain.loss,
        "weights": [p.detach().double().norm().item() for p in trainer.final_model.parameters()],
    }


def main() -> None:
    out, variants = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    # This compares how compiled steps and several processes work together, not the compiler's code.
    torch.compile = functools.partial(torch.compile, backend="eager")
    parts.open_dataset = lambda *arguments, **named: tiny_dataset()  # type: ignore[attr-defined]
    WideResNet.train = freeze_bn  # type: ignore[method-assign,assignment]
    processes = join(place(), torch.device("cpu"))
    facts: dict[str, dict[str, Any]] = {}
    for number, (name, keys) in enumerate(variants.items()):
        facts[name] = {}
        if processes.is_first:
            facts[name]["alone"] = twenty_steps(out.with_name(f"{number}-alone"), keys, Processes())
        processes.wait()
        facts[name]["together"] = twenty_steps(out.with_name(f"{number}-together"), keys, processes)
    if processes.is_first:
        out.write_text(json.dumps(facts))
    processes.close()


if __name__ == "__main__":
    main()
