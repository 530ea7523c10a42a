"""One optimiser step: forward, backward, accumulation, SAM, clipping, update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wrn.config.schema import Config
from wrn.data.augment.batch import Batch
from wrn.data.random import generator
from wrn.distributed.processes import Processes
from wrn.errors import TrainingError
from wrn.model import AveragedModel, Precision, WideResNet
from wrn.model.batch_norm import preserve_bn_statistics
from wrn.training.meters import Meters
from wrn.training.optimizer import Optimizers
from wrn.training.replica import Replica
from wrn.training.sam import perturbed
from wrn.training.schedule import Schedule


def mixed_loss(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """Cross-entropy per image, float32 (B,), against one label or the weighted two of a mixed image."""
    logits = logits.float()
    loss = F.cross_entropy(logits, batch.labels, reduction="none", label_smoothing=label_smoothing)
    if batch.other_labels is None:
        return loss
    other = F.cross_entropy(logits, batch.other_labels, reduction="none", label_smoothing=label_smoothing)
    assert batch.weight is not None
    return batch.weight * loss + (1 - batch.weight) * other


def mixed_hits(logits: Tensor, batch: Batch) -> Tensor:
    """The number of correctly predicted images; a mixed image counts fractionally."""
    best = logits.argmax(1)
    hits = (best == batch.labels).float()
    if batch.other_labels is not None:
        assert batch.weight is not None
        hits = batch.weight * hits + (1 - batch.weight) * (best == batch.other_labels)
    return hits.sum()


def chunks(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of at most `size` images."""
    for start in range(0, batch.size, size):
        yield batch.rows(slice(start, start + size))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device ran out of memory, by the exception's type or only its text (cuBLAS, cuDNN, MPS, CPU)."""
    texts = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts)


def group_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, keyed by the rest of the name."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class TrainStep:
    """Updates the weights, one batch at a time. Holds what a step needs and the state that only steps change.

    micro_batch: images per forward pass. If configured as `auto`, it is halved when the device runs out of memory; the
    step still uses the mean gradient of the whole batch (though BN necessarily sees the smaller ones).
    on_phase: called with "forward", "backward" and "optimizer" as each begins, for timing.
    """

    def __init__(
        self,
        config: Config,
        model: WideResNet,
        optimizers: Optimizers,
        precision: Precision,
        schedule: Schedule,
        on_note: Callable[[str], None],
        processes: Processes | None = None,
    ) -> None:
        processes = processes or Processes()
        self.model = model
        self.average = AveragedModel(model, config.ema_decay) if config.ema_decay else None
        self.meters = Meters(precision.device, processes)
        self.scaler = torch.amp.GradScaler(precision.device.type, enabled=precision.scales_loss)
        self.micro_batch = config.batch_size if config.micro_batch == "auto" else config.micro_batch
        # Processes that share a batch must not halve it independently: their collectives would no longer match.
        self._may_halve = config.micro_batch == "auto" and processes.place.world_size == 1
        self._config = config
        self._optimizers = optimizers
        self._precision = precision
        self._schedule = schedule
        self._on_note = on_note
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._replica = Replica(processes.shared(model), config.compile, on_note)
        self._processes = processes
        self.on_phase: Callable[[str], None] = lambda phase: None

    @property
    def compile_seconds(self) -> float:
        """The part of the steps' time that went into compiling so far."""
        return self._replica.compile_seconds

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What steps change: tensors by name, and JSON values for the rest. The same in all processes."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor for name, tensor in self._optimizers.state_dict().items()}
        tensors["meters"] = self.meters.total()
        if self.average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.state_dict().items()}
        return tensors, {
            "scaler": self.scaler.state_dict(),
            "micro_batch": self.micro_batch,
            "average_updates": self.average.updates if self.average is not None else 0,
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`. Raises KeyError or RuntimeError if it does not fit."""
        self.model.load_state_dict(group_of(tensors, "model/"))
        self._optimizers.load_state_dict(group_of(tensors, "optimizer/"))
        self.meters.restore(tensors["meters"])
        if self.average is not None:
            average = group_of(tensors, "average/") or group_of(tensors, "model/")
            self.average.load_state_dict(average, state["average_updates"])
        if state["scaler"]:  # empty if the run's precision needed no loss scaling
            self.scaler.load_state_dict(state["scaler"])
        if self._config.micro_batch == "auto":
            self.micro_batch = min(state["micro_batch"], self._config.batch_size)

    def __call__(self, step: int, batch: Batch) -> None:
        """Take step number `step` of the run. Does not wait for the device.

        Raises TrainingError if not even a single image fits into memory.
        """
        if self._config.dropout:
            # Nothing else uses torch's global generators; seeding them by step makes dropout resumable.
            rank = self._processes.place.rank
            purpose = f"dropout of process {rank}" if rank else "dropout"
            torch.manual_seed(int(generator(self._config.seed, purpose, step).integers(2**63)))
        self._optimizers.set_rate(self._schedule.lr_at(step) / self._schedule.peak)
        counted = self.meters.values.clone()
        while not self._gradients_fit(step, batch):
            self._halve_micro_batch(min(self.micro_batch, self._config.sam_batch or batch.size, batch.size))
            self.meters.values.copy_(counted)
        self.on_phase("optimizer")
        self.scaler.unscale_(self._optimizers)  # type: ignore[arg-type]
        norm = torch.nn.utils.get_total_norm(p.grad for p in self._parameters if p.grad is not None)
        if self._config.gradient_clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._config.gradient_clip, norm)
        self.meters.add_step(step, norm, may_overflow=self.scaler.is_enabled())
        self.scaler.step(self._optimizers)  # type: ignore[arg-type]
        self.scaler.update()
        if self.average is not None:
            self.average.update()

    def _gradients_fit(self, step: int, batch: Batch) -> bool:
        """Compute the gradients. Returns False if the device runs out of memory, with partial results released."""
        try:
            self._gradients(step, batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return False  # the error holds the failed pass's graph, whose memory is only freed after this block
        return True

    def _gradients(self, step: int, batch: Batch) -> None:
        """Leave the mean gradient over the batch in the parameters, the same in all processes."""
        self._clear_gradients()
        # The mean over the processes of (sum of its losses / divisor) is the mean over all images.
        divisor = batch.global_size / self._processes.place.world_size
        usual = batch.global_size == self._config.batch_size
        if not self._config.sam_rho:
            self._accumulate(step, batch, divisor, usual=usual, synchronised=True)
            return
        # m-sharpness: each unit of images has its own perturbation, and the gradients are averaged. Processes have
        # different units, so the first pass of a unit is not synchronised.
        units = list(chunks(batch, self._config.sam_batch or self.micro_batch))
        total = self._replica.new_gradients(self._parameters)
        for number, unit in enumerate(units, start=1):
            self._clear_gradients()
            self._accumulate(step, unit, unit.size, usual=usual, synchronised=False)
            with perturbed(self._parameters, self._config.sam_rho), preserve_bn_statistics(self.model):
                for parameter, gradient in zip(self._parameters, total, strict=True):
                    parameter.grad = gradient
                last = number == len(units)
                self._accumulate(step, unit, divisor, usual=usual, synchronised=last, measured=False)
            total = [parameter.grad for parameter in self._parameters]

    def _clear_gradients(self) -> None:
        for parameter, gradient in zip(self._parameters, self._replica.new_gradients(self._parameters), strict=True):
            parameter.grad = gradient

    def _accumulate(
        self, step: int, batch: Batch, divisor: float, *, usual: bool, synchronised: bool, measured: bool = True
    ) -> None:
        """Add d(sum of losses / divisor)/dw to the gradients, one micro-batch at a time.

        usual: see `Replica.forward`.
        synchronised: finally average the gradients, including what they held before, over the processes.
        """
        parts = list(chunks(batch, self.micro_batch))
        for number, part in enumerate(parts, start=1):
            own = not synchronised or number < len(parts)
            with self._replica.unsynchronised() if own else nullcontext():
                self.on_phase("forward")
                with self._precision.autocast():
                    logits = self._replica.forward(part.images, usual=usual)
                loss_sum = mixed_loss(logits, part, self._config.label_smoothing).sum()
                self.on_phase("backward")
                self._replica.backward(self.scaler.scale(loss_sum / divisor))
            if measured:
                self.meters.add_pass(step, loss_sum.detach(), mixed_hits(logits.detach(), part), part.size)

    def _halve_micro_batch(self, tried: int) -> None:
        """tried: images in the pass that did not fit; below `micro_batch` if the batch or SAM's unit is smaller."""
        if not self._may_halve or tried == 1:
            raise TrainingError(
                f"out of memory with {tried} images per forward pass; give a smaller --micro-batch, "
                "a smaller network, or --device cpu"
            )
        self.micro_batch = (tried + 1) // 2
        self._clear_gradients()
        if self._precision.device.type == "cuda":
            torch.cuda.empty_cache()
        self._on_note(f"out of memory: continuing with micro-batches of {self.micro_batch} images")
