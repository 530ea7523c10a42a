from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import augmentation
from wrn.data.albumentations_loader import AlbumentationsLoader, load_transform
from wrn.data.dataset import Split
from wrn.data.loader import make_loader
from wrn.errors import ConfigError

albumentations = pytest.importorskip("albumentations")


def make(workers: int = 0, rank: int = 0, world_size: int = 1, file: Path | None = None) -> AlbumentationsLoader:
    pixels = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loader = make_loader(
        augmentation(augment="albumentations", mixup_alpha=0.2, albumentations_file=file),
        Split(pixels, torch.arange(30)),
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
        8,
        seed=1,
        device=torch.device("cpu"),
        rank=rank,
        world_size=world_size,
        num_workers=workers,
        resolution_at=lambda step: 24,
    )
    assert isinstance(loader, AlbumentationsLoader)
    return loader


def test_batches_depend_only_on_seed_and_step() -> None:
    whole = list(make().batches(0, 8))
    assert [b.images.shape[-1] for b in whole] == [24] * 8
    assert sorted(torch.cat([b.labels for b in whole[:4]]).tolist()) == list(range(30))
    assert not torch.equal(whole[0].images, whole[4].images)
    for again in (list(make(workers=2).batches(5, 8)), list(make().batches(5, 8))):
        assert all(torch.equal(a.images, b.images) for a, b in zip(whole[5:], again, strict=True))
    shares = [next(iter(make(rank=rank, world_size=2).batches(3, 4))) for rank in range(2)]
    assert torch.equal(torch.cat([s.images for s in shares]), whole[3].images)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_process_group_does_not_kill_the_workers(number: signal.Signals) -> None:
    batches = make(workers=2).batches(0, 8)
    next(batches)
    for worker in multiprocessing.active_children():
        assert worker.pid is not None
        os.kill(worker.pid, number)
    assert len(list(batches)) == 7


def test_abandoned_workers_end() -> None:
    iterator = make(workers=2).batches(0, 8)
    next(iterator)
    assert len(multiprocessing.active_children()) == 2
    del iterator
    for child in multiprocessing.active_children():
        child.join(5)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_pipeline_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    albumentations.save(albumentations.InvertImg(p=1.0), path, data_format=suffix[1:])
    image = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
    assert (load_transform(path)(image=image)["image"] == 255 - image).all()


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (albumentations.Normalize(p=1.0), r"turns an image of uint8 \(32, 32, 3\) into float32 \(32, 32, 3\); remove"),
        (albumentations.ToFloat(p=1.0), "into float32"),
        (albumentations.Resize(24, 24), r"into uint8 \(24, 24, 3\)"),
        (albumentations.RandomCrop(64, 64), r"cannot be applied to an image of uint8 \(32, 32, 3\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_pipeline_that_returns_something_else_than_images(tmp_path: Path, operation: Any, words: str) -> None:
    path = tmp_path / "p.yaml"
    albumentations.save(albumentations.Compose([operation]), path, data_format="yaml")
    with pytest.raises(ConfigError, match=words):
        make(file=path)


def test_what_is_not_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="is not a serialised pipeline"):
        load_transform(tmp_path / "p.yaml")
    with pytest.raises(ConfigError, match=r"there is no file .*no\.yaml"):
        load_transform(tmp_path / "no.yaml")
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ConfigError, match="is not installed; pip install"):
        load_transform(None)
