"""Runs whose defaults adapted, to flags or to the data, are resumed like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tiny import Recorder, tiny_dataset
from wrn.config import resolve, run_paths
from wrn.config.layers import Resolved
from wrn.distributed.processes import Processes
from wrn.errors import CheckpointError
from wrn.training.run import prepare
from wrn.training.trainer import Trainer

SMALL = {
    **{"dataset": "folder", "depth": "10", "widen_factor": "1", "device": "cpu", "progress": "plain"},
    **{"mixup_alpha": "0", "cutout": "0", "dropout": "0", "amp": "false"},
}


@pytest.fixture(autouse=True)
def images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Five classes with twelve images each; a test may change the number of images."""
    number = [60]
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: tiny_dataset(number[0]))
    return number


def asked(output: Path, recipe: str | None = None, **flags: Any) -> Resolved:
    return resolve(recipe, {**({} if recipe else SMALL), "output_dir": str(output), **flags})


def train(resolved: Resolved, stop_after: int | None = None) -> tuple[Trainer, list[str]]:
    recorder = Recorder(stop_after)
    paths = run_paths(resolved.config, "tiny", {"SAGEMAKER_BASE_DIR": "/nowhere"})
    paths.run.mkdir(parents=True, exist_ok=True)
    trainer, _, _ = prepare(resolved.config, paths, recorder, Processes(), torch.device("cpu"))
    trainer.run(recorder.stop)
    return trainer, recorder.notes


def test_the_same_command_resumes(tmp_path: Path) -> None:
    trainer, notes = train(asked(tmp_path, epochs="2"))
    assert (trainer.config.epochs, trainer.config.warmup_epochs, trainer.config.batch_size) == (2, 0.1, 60)
    assert "batch_size: 60 instead of 256, as there are 60 images to train on" in notes
    trainer, _ = train(asked(tmp_path, epochs="2"))
    assert trainer.resumed
    assert not trainer.took_steps


def test_its_own_configuration_is_a_recipe_that_resumes_it(tmp_path: Path) -> None:
    train(asked(tmp_path, epochs="2"))
    written = tmp_path / "config.yaml"
    sections = yaml.safe_load(written.read_text())
    assert sections["training"]["batch_size"] == 60
    trainer, _ = train(asked(tmp_path, str(written)))
    assert trainer.resumed
    flat = tmp_path / "flat.yaml"  # as earlier versions wrote it
    flat.write_text(yaml.safe_dump({key: value for section in sections.values() for key, value in section.items()}))
    trainer, _ = train(asked(tmp_path, str(flat)))
    assert trainer.resumed


def test_more_epochs_keep_the_warm_up_that_adapted_to_fewer(tmp_path: Path) -> None:
    train(asked(tmp_path, epochs="2"))
    trainer, notes = train(asked(tmp_path, epochs="4"))
    assert trainer.resumed
    assert (trainer.config.epochs, trainer.config.warmup_epochs) == (4, 0.1)
    assert "warm-up and milestones: as the run began, with 2 epochs" in notes
    with pytest.raises(CheckpointError, match=r"warmup_epochs was 0\.1 and is 1\.0"):
        train(asked(tmp_path, epochs="6", warmup_epochs="1"))


def test_a_given_batch_must_be_the_one_that_the_run_began_with(tmp_path: Path, images: list[int]) -> None:
    train(asked(tmp_path, epochs="1"))
    with pytest.raises(CheckpointError, match="batch_size was 60 and is 30"):
        train(asked(tmp_path, epochs="1", batch_size="30"))
    images[0] = 120
    with pytest.raises(CheckpointError, match="batch_size was 60 and is 120"):
        train(asked(tmp_path, epochs="1"))
