from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from wrn.config.schema import Config
from wrn.data.augment.batch import Batch
from wrn.distributed.environment import Place
from wrn.distributed.processes import Processes
from wrn.errors import TrainingError
from wrn.model import Precision, WideResNet, pick_precision
from wrn.training.optimizer import Optimizers
from wrn.training.schedule import Schedule
from wrn.training.step import TrainStep, mixed_hits, mixed_loss

FP32 = pick_precision(torch.device("cpu"), amp=False)


def make(
    model: WideResNet, precision: Precision = FP32, processes: Processes | None = None, **keys: Any
) -> tuple[TrainStep, list[str]]:
    config = Config(**{"dropout": 0.0, "amp": False, "batch_size": 8, "warmup_epochs": 0, **keys})
    notes: list[str] = []
    schedule = Schedule("step", config.lr, 0.0, 0, 10)
    optimizers = Optimizers(config, model, precision)
    return TrainStep(config, model, optimizers, precision, schedule, notes.append, processes), notes


def batch(size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(size, 3, 8, 8, generator=generator), torch.arange(size) % 5)


def frozen_bn(model: WideResNet) -> WideResNet:
    """BN as in evaluation, so that the size of a micro-batch makes no difference."""
    return model.eval()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_loss_is_cross_entropy_against_the_soft_labels(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, weight = torch.randn(6, 5), torch.rand(6)
    first, second = torch.arange(6) % 5, (torch.arange(6) * 2) % 5
    mixed = Batch(torch.zeros(6, 3, 2, 2), first, second, weight)
    soft = weight[:, None] * F.one_hot(first, 5) + (1 - weight)[:, None] * F.one_hot(second, 5)
    soft = soft * (1 - smoothing) + smoothing / 5
    expected = -(soft * logits.log_softmax(1)).sum(1)
    assert torch.allclose(mixed_loss(logits, mixed, smoothing), expected, atol=1e-6)


def test_hits_of_mixed_images_are_fractional() -> None:
    logits = torch.eye(3)
    assert mixed_hits(logits, Batch(torch.zeros(3, 1), torch.tensor([0, 1, 0]))) == 2
    mixed = Batch(torch.zeros(3, 1), torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]), torch.tensor([0.7, 0.4, 0.5]))
    assert mixed_hits(logits, mixed).item() == pytest.approx(0.7 + 0.6)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(size: int) -> None:
    torch.manual_seed(0)
    model = frozen_bn(WideResNet(10, 1, 0.0, 5))
    twin = copy.deepcopy(model)
    make(model)[0](0, batch())
    make(twin, micro_batch=size)[0](0, batch())
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("too much"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "cublas", "mps", "cpu"],
)
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = frozen_bn(WideResNet(10, 1, 0.0, 5))
    twin = copy.deepcopy(model)
    make(model)[0](0, batch())
    step, notes = make(twin)
    forward = step._replica.forward

    def small_device(images: torch.Tensor, usual: bool) -> torch.Tensor:
        if len(images) > 2:
            raise error
        return forward(images)

    monkeypatch.setattr(step._replica, "forward", small_device)
    step(0, batch())
    assert step.micro_batch == 2
    assert notes == [f"out of memory: continuing with micro-batches of {size} images" for size in (4, 2)]
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert step.meters.values[2] == 8  # no image counted twice


def test_the_size_of_the_failed_pass_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAM's units are smaller than the batch: halving the batch would repeat the same pass three times."""
    step, notes = make(WideResNet(10, 1, 0.0, 5), sam_rho=0.05, sam_batch=2)
    forward = step._replica.forward

    def small_device(images: torch.Tensor, usual: bool) -> torch.Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("too much")
        return forward(images)

    monkeypatch.setattr(step._replica, "forward", small_device)
    step(0, batch())
    assert notes == ["out of memory: continuing with micro-batches of 1 images"]


def test_a_failed_pass_releases_its_memory_before_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    step, _ = make(WideResNet(10, 1, 0.0, 5))
    forward, held, alive = step._replica.forward, [], []

    def full_at_first(images: torch.Tensor, usual: bool) -> torch.Tensor:
        logits = forward(images)
        if len(images) > 4:
            held.append(weakref.ref(logits))
            raise torch.OutOfMemoryError("too much")
        return logits

    step._on_note = lambda note: alive.append(held[0]() is not None)
    monkeypatch.setattr(step._replica, "forward", full_at_first)
    step(0, batch())
    assert alive == [False]


def test_out_of_memory_with_one_image_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    step, _ = make(WideResNet(10, 1, 0.0, 5))

    def full(images: torch.Tensor, usual: bool) -> torch.Tensor:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(step._replica, "forward", full)
    with pytest.raises(TrainingError, match="out of memory with 1 images"):
        step(0, batch())


def test_the_gradient_is_clipped_and_its_norm_before_that_is_logged() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 1, 0.0, 5)
    step, _ = make(model, gradient_clip=0.01)
    step(0, batch())
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])  # type: ignore[misc]
    assert norm.item() == pytest.approx(0.01, rel=1e-3)
    assert step.meters.read().grad_norm > 0.1


@pytest.mark.parametrize("sam_batch", [0, 4, 3])
def test_sam_is_the_mean_gradient_at_the_worst_point_of_each_unit(sam_batch: int) -> None:
    torch.manual_seed(0)
    model = frozen_bn(WideResNet(10, 1, 0.0, 5))
    twin = copy.deepcopy(model)
    rho, whole = 0.1, batch()
    expected = [torch.zeros_like(p) for p in twin.parameters()]
    size = sam_batch or 8
    for start in range(0, 8, size):
        images, labels = whole.images[start : start + size], whole.labels[start : start + size]

        def gradients(images: torch.Tensor = images, labels: torch.Tensor = labels) -> tuple[torch.Tensor, ...]:
            loss = F.cross_entropy(twin(images), labels, label_smoothing=0.1)
            return torch.autograd.grad(loss, list(twin.parameters()))

        first = gradients()
        norm = torch.cat([g.flatten() for g in first]).norm()
        with torch.no_grad():
            for p, g in zip(twin.parameters(), first, strict=True):
                p.add_(g * rho / norm)
        second = gradients()
        with torch.no_grad():
            for p, g in zip(twin.parameters(), first, strict=True):
                p.sub_(g * rho / norm)
            for total, g in zip(expected, second, strict=True):
                total.add_(g, alpha=len(labels) / 8)
    before = [p.detach().clone() for p in model.parameters()]
    make(model, sam_rho=rho, sam_batch=sam_batch, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)[0](0, whole)
    for p, start_value, gradient in zip(model.parameters(), before, expected, strict=True):
        assert torch.allclose(p, start_value - 0.1 * gradient, atol=1e-5)


FP16 = Precision(torch.device("cpu"), torch.float16, "as on a GPU without bf16")


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_fp16_with_a_scaled_loss_follows_fp32(optimizer: str) -> None:
    torch.manual_seed(0)
    model, losses = WideResNet(10, 1, 0.0, 5), []
    for precision in (FP32, FP16):
        network = copy.deepcopy(model)
        step, _ = make(network, precision, optimizer=optimizer, lr=0.05, muon_lr=0.02)
        for number in range(5):
            step(number, batch())
        losses.append(step.meters.read().loss)
        assert step.scaler.is_enabled() == (precision is FP16)
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_step_whose_scaled_gradients_overflow_is_skipped_and_scaled_less(optimizer: str) -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 1, 0.0, 5)
    step, _ = make(model, FP16, optimizer=optimizer)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    step(0, batch())
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert step.scaler.get_scale() == 2.0**39
    totals = step.meters.read()
    assert (totals.grad_norm, totals.first_bad_step) == (0.0, None)
    for number in range(1, 40):
        step(number, batch())
    assert not torch.equal(before[0], next(model.parameters()))


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_step_on_a_gpu_follows_fp32_on_the_cpu(amp: str) -> None:
    torch.manual_seed(0)
    model = WideResNet(16, 2, 0.0, 5)
    images = torch.randn(64, 3, 32, 32)
    labels = torch.arange(64) % 5
    losses = {}
    for device in ("cpu", "cuda"):
        network = copy.deepcopy(model).to(device)
        config = Config(dropout=0.0, batch_size=64, warmup_epochs=0, lr=0.05)
        precision = FP32 if device == "cpu" else pick_precision(torch.device(device), amp=True, amp_dtype=amp)
        schedule = Schedule("step", 0.05, 0.0, 0, 10)
        step = TrainStep(
            config, network, Optimizers(config, network, precision), precision, schedule, lambda note: None
        )
        for number in range(5):
            step(number, Batch(images.to(device), labels.to(device)))
        losses[device] = step.meters.read().loss
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.02)


def test_the_smaller_last_batch_of_an_epoch_counts_its_own_images() -> None:
    """Its gradient is the mean over its own images, not their share of a full batch."""
    torch.manual_seed(0)
    model = frozen_bn(WideResNet(10, 1, 0.0, 5))
    twin = copy.deepcopy(model)
    make(model, batch_size=8)[0](0, batch(3))
    make(twin, batch_size=3)[0](0, batch(3))
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_only_one_of_sam_s_two_passes_counts() -> None:
    """In the meters and in BN's statistics, which belong to the unperturbed weights."""
    torch.manual_seed(0)
    model = WideResNet(10, 1, 0.0, 5)
    step, _ = make(model, sam_rho=0.05, sam_batch=4)
    step(0, batch())
    assert step.meters.values[2] == 8
    assert model.bn.num_batches_tracked == 2


def test_the_averaged_weights_include_every_step() -> None:
    torch.manual_seed(0)
    step, _ = make(WideResNet(10, 1, 0.0, 5), ema_decay=0.9)
    assert step.average is not None
    before = step.model.fc.weight.detach().clone()
    step(0, batch())
    assert torch.allclose(step.average.module.fc.weight, 0.1 * before + 0.9 * step.model.fc.weight)  # 0.1 at first
    assert step.average.updates == 1


def one_of_two(rank: int) -> Processes:
    processes = Processes()
    processes.place = Place(rank=rank, world_size=2)
    return processes


def test_processes_that_share_a_batch_do_not_halve_it_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their numbers of passes would differ from then on, and they would wait for each other forever."""
    step, _ = make(WideResNet(10, 1, 0.0, 5), processes=one_of_two(1), batch_size=16)

    def full(images: torch.Tensor, usual: bool) -> torch.Tensor:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(step._replica, "forward", full)
    with pytest.raises(TrainingError, match="out of memory with 8 images"):
        step(0, batch())


def test_dropout_differs_between_processes_and_is_reproducible() -> None:
    torch.manual_seed(0)
    model = frozen_bn(WideResNet(10, 1, 0.5, 5))
    for block in model.blocks():
        block.dropout.train()
    losses = []
    for rank in (0, 1, 0):
        step, _ = make(copy.deepcopy(model), processes=one_of_two(rank), dropout=0.5)
        step(3, batch())
        losses.append(step.meters.values[0].item())
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]


def test_what_a_run_learnt_about_its_machine_is_restored() -> None:
    """The loss scale and the number of images that fit into memory; otherwise it would relearn both at every start."""
    torch.manual_seed(0)
    step, _ = make(WideResNet(10, 1, 0.0, 5), FP16)
    step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 2.0**20})
    step.micro_batch = 2
    again, _ = make(WideResNet(10, 1, 0.0, 5), FP16)
    again.load_state_dict(*step.state_dict())
    assert (again.scaler.get_scale(), again.micro_batch) == (2.0**20, 2)
    smaller, _ = make(WideResNet(10, 1, 0.0, 5), FP16, micro_batch=1)
    smaller.load_state_dict(*step.state_dict())
    assert smaller.micro_batch == 1  # as configured


def test_an_average_missing_from_the_checkpoint_starts_with_its_weights() -> None:
    """As when a run resumes with `--resume-anyway --ema-decay`."""
    torch.manual_seed(0)
    before, _ = make(WideResNet(10, 1, 0.0, 5))
    before(0, batch())
    after, _ = make(WideResNet(10, 1, 0.0, 5), ema_decay=0.9)
    after.load_state_dict(*before.state_dict())
    assert after.average is not None
    assert torch.equal(after.average.module.fc.weight, before.model.fc.weight)
