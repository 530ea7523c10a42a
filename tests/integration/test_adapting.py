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
    assert "val_fraction: 0 instead of 0.05, as no class has 20 images, at most 12" in notes
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
    trainer, notes = train(asked(tmp_path, epochs="6"))
    assert trainer.resumed
    assert (trainer.config.epochs, trainer.config.warmup_epochs) == (6, 0.1)
    assert "warmup_epochs: 0.1 instead of 5, as when the run began" in notes
    with pytest.raises(CheckpointError, match=r"warmup_epochs was 0\.1 and is 1\.0"):
        train(asked(tmp_path, epochs="7", warmup_epochs="1"))


def test_what_nobody_gave_stays_as_the_run_began(tmp_path: Path, images: list[int]) -> None:
    """Also if a default was another in an earlier version, or no longer fits the data."""
    images[0] = 100
    train(asked(tmp_path, epochs="1", val_fraction="0", gradient_clip="0"))
    trainer, notes = train(asked(tmp_path, epochs="1"))
    assert trainer.resumed
    assert (trainer.config.val_fraction, trainer.config.gradient_clip, trainer.config.batch_size) == (0, 0, 100)
    assert "val_fraction: 0 instead of 0.05, as when the run began" in notes
    with pytest.raises(CheckpointError, match=r"val_fraction was 0\.0 and is 0\.05"):
        train(asked(tmp_path, epochs="1", val_fraction="0.05"))
    with pytest.raises(CheckpointError, match="batch_size was 100 and is 30"):
        train(asked(tmp_path, epochs="1", batch_size="30"))
    images[0] = 120
    with pytest.raises(CheckpointError, match=r"other data .100 \+ 20 images, here are 120 \+ 20"):
        train(asked(tmp_path, epochs="1"))


def test_the_default_holds_out_the_twentieth_image_of_each_class(tmp_path: Path, images: list[int]) -> None:
    images[0] = 100
    trainer, notes = train(asked(tmp_path, epochs="1"))
    assert trainer.config.val_fraction == 0.05
    assert any(note.endswith("95 images to train on, 5 held out for validation") for note in notes)
    assert trainer.selection.best_epoch == 1
