"""Takes twenty steps of a tiny run in each process; the first writes down what it saw."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import torch
from torch import nn

import wrn.training.parts as parts
from tiny import Recorder, tiny_config, tiny_dataset
from wrn.config import run_paths
from wrn.distributed.environment import place
from wrn.distributed.processes import join
from wrn.model import WideResNet
from wrn.training.run import prepare


def freeze_bn(model: nn.Module, mode: bool = True) -> nn.Module:
    """`train()`, but BN keeps its statistics."""
    nn.Module.train(model, mode)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training = False
    return model


def main() -> None:
    out, keys = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    # This compares how compiled steps and several processes work together, not the compiler's code.
    torch.compile = functools.partial(torch.compile, backend="eager")  # type: ignore[assignment]
    parts.open_dataset = lambda *arguments, **named: tiny_dataset()  # type: ignore[assignment]
    WideResNet.train = freeze_bn  # type: ignore[method-assign,assignment]
    processes = join(place(), torch.device("cpu"))
    epochs = {"epochs": 5, "dropout": 0.0, "amp": False, "lr": 0.02, "muon_lr": 0.005, "checkpoint_epochs": 0}
    config = tiny_config(out.with_suffix(".run"), **{**epochs, **keys})
    paths = processes.first_does(lambda: run_paths(config, "tiny", {"SAGEMAKER_BASE_DIR": "/nowhere"}))
    paths.run.mkdir(parents=True, exist_ok=True)
    recorder = Recorder()
    trainer, _, _ = prepare(config, paths, recorder, processes, torch.device("cpu"))
    trainer.model.train()
    losses, images = [], []
    for step, batch in enumerate(trainer._loader.batches(0, 20)):
        before = trainer._train_step.meters.total()
        trainer._train_step(step, batch)
        after = trainer._train_step.meters.total()
        losses.append(((after[0] - before[0]) / (after[2] - before[2])).item())
        images.append((after[2] - before[2]).item())
    test = trainer.evaluate(tiny_dataset().test).plain
    facts = {
        "steps": len(losses),
        "losses": losses,
        "images": images,
        "test": test.loss,
        "weights": [p.detach().double().norm().item() for p in trainer.final_model.parameters()],
    }
    if processes.is_first:
        out.write_text(json.dumps(facts))
    processes.close()


if __name__ == "__main__":
    main()
