from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny import augmentation
from wrn.config.schema import AugmentSection
from wrn.data.augment.batch import Batch
from wrn.data.augment.pipeline import Pipeline
from wrn.data.dataset import Split
from wrn.data.loader import DeviceLoader, Loader, _made_ahead, make_loader
from wrn.data.order import share_of
from wrn.errors import ConfigError

CPU = torch.device("cpu")
PLAIN = augmentation(crop_padding=0, flip=False)
EVERYTHING = augmentation(cutout=8, random_erasing=0.3, mixup_alpha=0.2, cutmix_alpha=1.0, mix_probability=0.7)


def make(options: AugmentSection, images: int = 50, batch_size: int = 8, **keys: object) -> DeviceLoader:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    split = Split(pixels, torch.arange(images))
    pipeline = Pipeline(options, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return DeviceLoader(split, batch_size, pipeline, device=CPU, **{"seed": 3, **keys})  # type: ignore[arg-type]


def same(left: Batch, right: Batch) -> bool:
    pairs = zip(vars(left).values(), vars(right).values(), strict=True)
    return all((one == other if not isinstance(one, torch.Tensor) else torch.equal(one, other)) for one, other in pairs)


def test_every_image_occurs_once_per_epoch_in_a_different_order() -> None:
    loader = make(PLAIN)
    assert loader.steps_per_epoch == 7
    epochs = [torch.cat([b.labels for b in loader.batches(7 * e, 7 * e + 7)]).tolist() for e in range(3)]
    assert all(sorted(labels) == list(range(50)) for labels in epochs)
    assert len({tuple(labels) for labels in epochs}) == 3
    assert [b.size for b in loader.batches(0, 7)] == [8] * 6 + [2]


def test_a_batch_depends_only_on_seed_and_step() -> None:
    loader = make(EVERYTHING)
    through = list(loader.batches(0, 14))
    resumed = list(make(EVERYTHING).batches(9, 14))
    assert all(same(a, b) for a, b in zip(through[9:], resumed, strict=True))
    assert not same(through[9], make(EVERYTHING, seed=4).batch(9))


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [8, 7])
def test_the_shares_of_all_processes_make_up_the_batch_of_one(world_size: int, batch_size: int) -> None:
    whole = list(make(EVERYTHING, batch_size=batch_size).batches(0, 8))
    parts = [make(EVERYTHING, batch_size=batch_size, rank=r, world_size=world_size) for r in range(world_size)]
    for step, batch in enumerate(whole):
        shares = [loader.batch(step) for loader in parts]
        assert torch.equal(torch.cat([s.labels for s in shares]), batch.labels)
        assert torch.allclose(torch.cat([s.images for s in shares]), batch.images, atol=1e-6)
        assert batch.weight is not None
        assert torch.equal(torch.cat([s.weight for s in shares if s.weight is not None]), batch.weight)


@given(st.integers(0, 300), st.integers(1, 9))
def test_shares_cover_the_batch_in_even_parts(size: int, world_size: int) -> None:
    shares = [range(size)[share_of(size, rank, world_size)] for rank in range(world_size)]
    assert [row for share in shares for row in share] == list(range(size))
    assert all(len(share) % 2 == 0 or share.stop == size for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 3


def test_resolution_follows_the_step() -> None:
    loader = make(EVERYTHING, resolution_at=lambda step: 16 if step < 5 else 32)
    sides = [b.images.shape[-1] for b in loader.batches(0, 8)]
    assert sides == [16] * 5 + [32] * 3
    assert same(make(EVERYTHING, resolution_at=lambda step: 16).batch(3), loader.batch(3))


def test_images_are_normalised_and_channels_last() -> None:
    batch = make(PLAIN).batch(0)
    assert batch.images.dtype is torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert -2.001 <= batch.images.min() < -1.9
    assert 1.9 < batch.images.max() <= 2.001
    assert batch.other_labels is None


def test_a_batch_is_made_on_its_own_stream_before_the_previous_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a GPU: streams and batches are stand-ins that record what happens on which stream."""
    events: list[str] = []
    current = ["user"]

    class Stream:
        def __init__(self, name: str) -> None:
            self.name, self.device = name, "cuda"

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits for {other.name}")

    class FakeBatch:
        def __init__(self, number: int) -> None:
            events.append(f"batch {number} made on {current[-1]}")
            self.number, self.tensors = number, [self]

        def record_stream(self, stream: Stream) -> None:
            events.append(f"batch {self.number} kept for {stream.name}")

    @contextmanager
    def entered(stream: Stream) -> Iterator[None]:
        current.append(stream.name)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("user"))
    monkeypatch.setattr(torch.cuda, "stream", entered)
    batches: Any = (FakeBatch(number) for number in range(2))
    side: Any = Stream("side")
    for batch in _made_ahead(batches, side):
        assert current == ["user"]
        events.append(f"step {batch.number}")  # type: ignore[attr-defined]
    assert events == [
        "side waits for user",
        "batch 0 made on side",
        "user waits for side",
        "batch 0 kept for user",
        "batch 1 made on side",
        "step 0",
        "user waits for side",
        "batch 1 kept for user",
        "step 1",
    ]


@pytest.mark.gpu
def test_batches_made_while_a_gpu_is_busy_are_the_same() -> None:
    """The step that uses a batch is late, and later batches are made meanwhile: none may be overwritten."""
    here = make(EVERYTHING, images=4000, batch_size=256, resolution_at=lambda step: 16 if step < 5 else 32)
    there = DeviceLoader(
        here._split, 256, here._pipeline, device=torch.device("cuda"), seed=3, resolution_at=here._resolution_at
    )
    sums = []
    for batch in there.batches(0, 15):
        torch.cuda._sleep(20_000_000)
        sums.append((batch.images.double().sum(), batch.labels.sum()))
    for step, (images, labels) in enumerate(sums):
        batch = here.batch(step)
        assert labels.item() == batch.labels.sum().item()
        assert images.item() == pytest.approx(batch.images.double().sum().item(), abs=1.0)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", ["none", "randaugment", "trivialaugment"])
def test_batches_on_a_gpu_equal_those_on_a_cpu(policy: str) -> None:
    """Crop, mirror and policies are equal to the byte; floating-point results up to rounding."""
    options = augmentation(augment=policy, cutout=8, mixup_alpha=0.2, cutmix_alpha=1.0)
    here = make(options, batch_size=32)
    there = DeviceLoader(here._split, 32, here._pipeline, device=torch.device("cuda"), seed=3)
    for step in range(3):
        mine, theirs = here.batch(step), there.batch(step)
        assert torch.equal(mine.labels, theirs.labels.cpu())
        assert torch.allclose(mine.images, theirs.images.cpu(), atol=1e-4)


@pytest.mark.gpu
def test_a_split_of_the_real_size_is_indexed_correctly() -> None:
    """The view of all windows of 50,000 images needs 64-bit indices, so a GPU uses other kernels."""
    here = make(EVERYTHING, images=50_000, batch_size=512)
    there = DeviceLoader(here._split, 512, here._pipeline, device=torch.device("cuda"), seed=3)
    for step in (0, 96):
        mine, theirs = here.batch(step), there.batch(step)
        assert torch.equal(mine.labels, theirs.labels.cpu())
        assert torch.allclose(mine.images, theirs.images.cpu(), atol=1e-4)


@pytest.mark.parametrize(("batch_size", "last", "most"), [(8, 2, 1), (7, 1, 1), (10, 10, 5), (9, 5, 3)])
def test_each_process_gets_two_images_of_the_last_batch(batch_size: int, last: int, most: int) -> None:
    """The last process may get one if the batch is odd."""
    whole = make(PLAIN)._split
    statistics = (0.5, 0.5, 0.5)

    def loader(world_size: int) -> Loader:
        return make_loader(PLAIN, whole, statistics, statistics, batch_size, seed=0, device=CPU, world_size=world_size)

    assert all(batch.size for batch in loader(most).batches(0, loader(most).steps_per_epoch))
    with pytest.raises(ConfigError, match=f"a last batch of {last}, too few for {most + 1} processes"):
        loader(most + 1)
