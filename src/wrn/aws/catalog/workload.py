"""What a configuration needs from a GPU, calculated: FLOP and memory of WRN-depth-k. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from wrn.config import architecture
from wrn.config.architecture import Architecture, training_flops
from wrn.config.schema import Config
from wrn.config.stages import parse_stages

FLOP_PER_MULTIPLY_ADD = 2
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000
"""For CIFAR-10, CIFAR-100 and the synthetic set; assumed for a folder of unknown size."""

CONTEXT_GIB = 1.5
"""Assumed: the CUDA context and cuDNN's workspace."""


def _blocks(config: Config) -> list[tuple[int, int, int]]:
    """(input channels, output channels, stride) of each block."""
    found, inputs = [], 16
    for group, outputs in enumerate((16, 32, 64)):
        for index in range((config.depth - 4) // 6):
            found.append((inputs, outputs * config.widen_factor, 2 if group and not index else 1))
            inputs = outputs * config.widen_factor
    return found


def classes_of(config: Config) -> int:
    return config.num_classes or (10 if config.dataset == "cifar10" else 100)


def multiply_adds(config: Config, side: int = 32) -> int:
    """Of one forward pass of one image of `side` pixels."""
    network = Architecture(config.depth, config.widen_factor, config.dropout, classes_of(config))
    return architecture.multiply_adds(network, side)


def parameters(config: Config) -> int:
    """Trained weights. WRN-28-10, 100 classes: 36,536,884."""
    total = 27 * 16
    outputs = 16
    for inputs, outputs, _ in _blocks(config):
        shortcut = inputs * outputs if inputs != outputs else 0
        total += 9 * inputs * outputs + 9 * outputs * outputs + shortcut + 2 * inputs + 2 * outputs
    return total + 2 * outputs + (outputs + 1) * classes_of(config)


def activation_bytes(config: Config) -> int:
    """Bytes per image that the backward pass needs: for each block its input, before and after BN and ReLU, and the
    same for its second convolution; with dropout also its output and mask."""
    side = max(side for side, _ in parse_stages(config.resolutions))
    width = 2 if config.amp else 4
    total = 0
    outputs = 16
    for inputs, outputs, stride in _blocks(config):
        before, side = side, -(-side // stride)
        total += width * (2 * inputs * before * before + 2 * outputs * side * side)
        if config.dropout:
            total += (width + 1) * outputs * side * side
    return total + width * 2 * outputs * side * side


def memory_gib(config: Config, images: int) -> float:
    """Estimated GPU memory for training with this many images per forward pass.

    Weights, gradients and momentum in float32, a 16-bit copy, and if enabled the averaged weights and SAM's two copies;
    activations; the gradients of the widest block in flight; context and workspace. Not measured.
    """
    copies = 4 * 3 + 2 * config.amp + 4 * bool(config.ema_decay) + 8 * bool(config.sam_rho)
    side = max(side for side, _ in parse_stages(config.resolutions))
    in_flight = 4 * (2 if config.amp else 4) * 16 * config.widen_factor * side * side
    return CONTEXT_GIB + (copies * parameters(config) + images * (activation_bytes(config) + in_flight)) / 2**30


@dataclass(frozen=True)
class Share:
    """One GPU's part of an optimiser step: its images, how many go through at a time, and in how many passes."""

    images: int
    at_a_time: int
    passes: int


def share_of_step(config: Config, gpus: int, at_most: int | None = None) -> Share:
    """A GPU's share of a step, with at most `at_most` images at a time (None: no limit)."""
    images = config.batch_size if config.scale_lr == "linear" else -(-config.batch_size // gpus)
    limits = [images]
    if isinstance(config.micro_batch, int):
        limits.append(config.micro_batch)
    if config.sam_rho and config.sam_batch:
        limits.append(config.sam_batch)
    if at_most is not None:
        limits.append(at_most)
    return Share(images, min(limits), -(-images // min(limits)) * passes_per_image(config))


def passes_per_image(config: Config) -> int:
    """Forward-backward passes: SAM takes two."""
    return 2 if config.sam_rho else 1


def global_batch(config: Config, gpus: int) -> int:
    return config.batch_size * (gpus if config.scale_lr == "linear" else 1)


def validation_images(config: Config) -> int:
    """Images held out."""
    return round(TRAIN_IMAGES * config.val_fraction)


def train_images(config: Config) -> int:
    """Images of one epoch: `train_images` counts those that are not held out. Only a folder may have more."""
    left = TRAIN_IMAGES - validation_images(config)
    if config.dataset == "folder":
        return config.train_images or left
    return min(config.train_images or left, left)


def flop_per_image(config: Config, side: int = 32) -> int:
    """FLOP per training image: one product forward and two of the same size backward, twice that with SAM."""
    return passes_per_image(config) * training_flops(multiply_adds(config, side))


def epoch_flop(config: Config) -> float:
    """FLOP per epoch, averaged over the recipe's resolutions."""
    stages = parse_stages(config.resolutions)
    return train_images(config) * sum(share * flop_per_image(config, side) for side, share in stages)


def evaluation_flop(config: Config) -> float:
    """FLOP of all evaluations: each due epoch on the validation split, or on the test split if there is none.

    With a validation split, the last and the best weights are scored on the test split in the end.
    """
    every = config.eval_epochs
    times = -(-config.epochs // every) if every else 1
    scored = times * TEST_IMAGES
    if config.val_fraction:
        scored = times * validation_images(config) + 2 * TEST_IMAGES
    return scored * FLOP_PER_MULTIPLY_ADD * multiply_adds(config) * (2 if config.tta else 1)
