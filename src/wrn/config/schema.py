"""The one schema: every key of config.yaml, every flag of `wrn train`, every hyperparameter of a SageMaker job.

Keys are flat. They are grouped into sections only for the reader; `Config` is all sections together, frozen.
The defaults are the `standard` recipe, and config.yaml restates them for people (a test holds the two equal).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from wrn.config.stages import as_text, format_stages, parse_milestones, parse_stages


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, the docstring under a field is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="after")
    @classmethod
    def _home_is_meant(cls, value: Any) -> Any:
        try:
            return value.expanduser() if isinstance(value, Path) else value  # no shell does it in --output-dir=~/x
        except RuntimeError:
            raise ValueError("there is no such user; write the folder out") from None


class DataSection(Section):
    """Data"""

    dataset: Literal["auto", "cifar100", "cifar10", "folder", "synthetic"] = "cifar100"
    """Which images. auto: CIFAR-100 if it is there or can be fetched quickly, else the synthetic set."""

    data_dir: Path | None = None
    """Folder that holds the data (alias: train_dir). Unset: $WRN_DATA_DIR, then ./data, then a download."""

    download: bool = True
    """Fetch the official archive when the data is nowhere on disk."""

    skip_broken: bool = False
    """With dataset folder: leave out images that cannot be read instead of stopping."""

    val_fraction: float = Field(0.0, ge=0, le=0.5)
    """Share of train held out, stratified and seeded, to choose the best epoch. 0: train on everything."""

    train_images: int = Field(0, ge=0)
    """Train on this many images only, the same number of each class, for quick trials. 0: all."""

    num_workers: int = Field(2, ge=0, le=256)
    """Worker processes of the albumentations policy; nothing else needs any."""


class AugmentSection(Section):
    """Augmentation"""

    crop_padding: int = Field(4, ge=0, le=16)
    """Reflect-pad by this many pixels, then crop at random (pixels of a 32 px image; 0: off)."""

    flip: bool = True
    """Mirror half of the images."""

    augment: Literal["none", "randaugment", "trivialaugment", "albumentations"] = "none"
    """Policy applied to each image: trivialaugment is TrivialAugmentWide; albumentations needs its extra."""

    randaugment_ops: int = Field(2, ge=1, le=8)
    """RandAugment: operations per image."""

    randaugment_magnitude: int = Field(14, ge=0, le=30)
    """RandAugment: strength, 0 to 30."""

    albumentations_file: Path | None = None
    """A serialised Albumentations pipeline (.yaml or .json). Unset: a sensible built-in one."""

    cutout: int = Field(8, ge=0, le=32)
    """Side of the square that Cutout blanks (pixels of a 32 px image; 0: off)."""

    random_erasing: float = Field(0.0, ge=0, le=1)
    """Probability of RandomErasing for an image (0: off)."""

    mixup_alpha: float = Field(0.2, ge=0, le=10)
    """MixUp: the Beta parameter (0: off). With CutMix on as well, each image takes one of the two."""

    cutmix_alpha: float = Field(0.0, ge=0, le=10)
    """CutMix: the Beta parameter (0: off)."""

    mix_probability: float = Field(1.0, ge=0, le=1)
    """Share of images that MixUp or CutMix touches."""

    resolutions: str = ""
    """Progressive resolution, "20:0.35 24:0.4 32:0.25": side in pixels and share of the steps. Empty: 32 px."""

    @field_validator("resolutions", mode="before")
    @classmethod
    def _stages_as_text(cls, value: Any) -> Any:
        return as_text(value)

    @field_validator("resolutions", mode="after")
    @classmethod
    def _stages_are_readable(cls, value: str) -> str:
        return format_stages(parse_stages(value))


def nearest_depths(depth: int) -> tuple[int, int] | None:
    """The nearest depths that a network can have, 6n+4 with n from 1 on; None where this is one of them."""
    if depth >= 10 and (depth - 4) % 6 == 0:
        return None
    below = 4 + 6 * max(1, (depth - 4) // 6)
    return below, below + 6


class ModelSection(Section):
    """Model"""

    depth: int = Field(28, ge=10, le=10_000)
    """Number of layers, 6n+4."""

    widen_factor: int = Field(10, ge=1, le=64)
    """Width: the three groups have 16, 32 and 64 channels times this."""

    dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout between the two convolutions of a block."""

    activation: Literal["relu", "silu"] = "relu"
    """What follows each BN; relu is the paper's, silu learns faster in short runs and costs some time on a CPU."""

    downsampling: Literal["stride", "pool"] = "stride"
    """How a block halves the picture; stride is the paper's, pool averages 2x2 pixels before both convolutions."""

    num_classes: int = Field(0, ge=0)
    """0: as many as the data has. Otherwise it must fit the data."""

    zero_init_residual: bool = False
    """Start each block as its shortcut alone: its last convolution is 0."""

    bn_momentum: float = Field(0.1, gt=0, le=1)
    """Weight of a new batch in the running statistics of BN."""

    @field_validator("depth")
    @classmethod
    def _depth_is_6n_plus_4(cls, depth: int) -> int:
        if (near := nearest_depths(depth)) is not None:
            raise ValueError(f"must be 6n+4; the nearest are {near[0]} and {near[1]}")
        return depth


class OptimizerSection(Section):
    """Optimisation"""

    epochs: int = Field(100, ge=1, le=100_000)
    """Passes over the training images."""

    batch_size: int = Field(256, ge=1)
    """Images per optimiser step, over all processes."""

    micro_batch: int | Literal["auto"] = "auto"
    """Images per forward pass; a step accumulates the rest. auto: the whole batch, halved on out-of-memory."""

    optimizer: Literal["sgd", "muon"] = "sgd"
    """sgd: Nesterov SGD. muon: Muon for convolutions, SGD for the rest."""

    lr: float = Field(0.1, gt=0, le=1000)
    """Peak learning rate."""

    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the end of the schedule."""

    schedule: Literal["cosine", "linear", "step"] = "cosine"
    """How the learning rate falls after the warm-up, once per step."""

    warmup_epochs: float = Field(5.0, ge=0)
    """Linear warm-up from 0, in epochs (fractions allowed)."""

    milestones: str = ""
    """Schedule step: the epochs at which the learning rate is multiplied by lr_decay, "60 120 160"."""

    lr_decay: float = Field(0.2, gt=0, le=1)
    """Schedule step: the factor at each milestone."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""

    nesterov: bool = True
    """Nesterov's form of the momentum."""

    weight_decay: float = Field(5e-4, ge=0, le=1)
    """On convolution and linear weights alone, never on BN or biases."""

    muon_lr: float = Field(0.02, gt=0, le=10)
    """Muon: peak learning rate of the convolutions; lr is that of the rest."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target spread evenly over all classes."""

    gradient_clip: float = Field(0.0, ge=0)
    """Largest norm of the gradient (0: off; the norm is logged either way)."""

    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the averaged weights, which then are the model (0: off)."""

    sam_rho: float = Field(0.0, ge=0, le=10)
    """Radius of sharpness-aware minimisation (0: off; a step then costs two passes)."""

    sam_batch: int = Field(0, ge=0)
    """SAM: images per perturbation, its m-sharpness (0: the whole micro-batch; 32 to 128 as published)."""

    @field_validator("milestones", mode="before")
    @classmethod
    def _milestones_as_text(cls, value: Any) -> Any:
        return as_text(value)

    @field_validator("milestones", mode="after")
    @classmethod
    def _milestones_are_readable(cls, value: str) -> str:
        return " ".join(repr(epoch).removesuffix(".0") for epoch in parse_milestones(value))

    @field_validator("micro_batch")
    @classmethod
    def _micro_batch_is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or auto")
        return value


class StoppingSection(Section):
    """Stopping"""

    budget_minutes: float = Field(0.0, ge=0)
    """Choose as many epochs as fit into this time less 5%, by the speed of the first seconds (0: epochs as given)."""

    budget_epochs: int = Field(0, ge=0, le=100_000)
    """With budget_minutes: at most so many epochs, however many would fit (0: all that fit)."""

    patience: int = Field(15, ge=0)
    """Stop after this many epochs without a better validation top-1 (0: never; needs val_fraction)."""

    target_accuracy: float = Field(0.0, ge=0, le=1)
    """Stop when the validation top-1 reaches this fraction (0: never; needs val_fraction)."""


class MachineSection(Section):
    """Machine"""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    amp: bool = True
    """Mixed precision."""

    amp_dtype: Literal["auto", "bf16", "fp16"] = "auto"
    """auto: bf16 where the hardware computes it, fp16 on older GPUs, fp32 elsewhere."""

    compile: bool | Literal["graphs"] = False
    """torch.compile: a minute of waiting for faster steps, worth it on a GPU. graphs: CUDA graphs too (one process)."""

    cpu_kernels: bool = True
    """On a CPU, our own kernels for BN with activation and 3x3 convolutions, compiled at the first start."""

    processes: int | Literal["auto"] = "auto"
    """Processes that train together on each host. auto: on SageMaker one for each GPU, elsewhere one."""

    scale_lr: Literal["none", "linear"] = "none"
    """Several processes. none: they share batch_size. linear: each has batch_size, and rates grow with their number."""

    sync_bn: bool = False
    """Several GPUs: BN statistics over the batches of all of them, instead of each its own."""

    deterministic: bool = False
    """Only kernels that give the same bits each time; slower on a GPU. CPUs do so anyway."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Decides the initial weights, the order of the images, their augmentation and the validation split."""

    @field_validator("device")
    @classmethod
    def _device_has_a_known_name(cls, value: str) -> str:
        if not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", value, re.ASCII):
            raise ValueError("must be auto, cpu, cuda, cuda:1 or mps")
        return value

    @field_validator("processes")
    @classmethod
    def _processes_are_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1, or auto")
        return value


class OutputSection(Section):
    """Output"""

    output_dir: Path | None = None
    """The run directory. Unset: runs/<time>-<recipe>."""

    model_dir: Path | None = None
    """Where the trained model goes. Unset: model/ in the run directory."""

    checkpoint_dir: Path | None = None
    """Where checkpoints go. Unset: checkpoints/ in the run directory."""

    checkpoint_epochs: int = Field(10, ge=0)
    """Checkpoint every so many epochs (0: not by epochs)."""

    checkpoint_minutes: float = Field(2.0, ge=0)
    """Checkpoint every so many minutes, fractions allowed (0: not by time)."""

    keep: int = Field(2, ge=2)
    """How many checkpoints stay on disk, at least two."""

    resume: str = "auto"
    """auto: from the newest valid checkpoint if there is one; never; or the path of a checkpoint."""

    resume_anyway: bool = False
    """Resume although the checkpoint was made with a different configuration."""

    eval_epochs: int = Field(1, ge=0)
    """Evaluate every so many epochs, and always at the end (0: only at the end)."""

    tta: bool = False
    """Report mirrored test-time augmentation beside the plain figures."""

    progress: Literal["auto", "rich", "plain"] = "auto"
    """auto: a progress view at a terminal, one plain line an epoch elsewhere."""

    tensorboard: bool = False
    """Write TensorBoard events to the run directory."""


class Config(
    OutputSection,
    MachineSection,
    StoppingSection,
    OptimizerSection,
    ModelSection,
    AugmentSection,
    DataSection,
):
    """A whole configuration. See config.yaml for the same keys with their reasons."""

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        problems = []  # each names all keys that it is about
        if self.min_lr > self.lr:
            problems.append(f"min_lr: {self.min_lr:g} is above lr ({self.lr:g}); lower min_lr or raise lr")
        if self.warmup_epochs > self.epochs:
            problems.append(
                f"warmup_epochs: {self.warmup_epochs:g} is longer than the run ({self.epochs} epochs); "
                f"give --warmup-epochs {self.epochs / 10:g}, or more --epochs"
            )
        if self.schedule == "step" and not self.milestones:
            problems.append('milestones: empty, but schedule step needs some, for example "60 120 160"')
        late = [epoch for epoch in parse_milestones(self.milestones) if epoch >= self.epochs]
        if self.schedule == "step" and late:
            problems.append(
                f"milestones: the rate would never fall at {late[0]:g}, as the run ends at {self.epochs}; "
                "give earlier --milestones, or more --epochs"
            )
        if self.target_accuracy and not self.val_fraction:
            problems.append("target_accuracy: needs a validation split; set val_fraction, for example 0.1")
        if self.nesterov and not self.momentum:
            problems.append("nesterov: needs momentum above 0; set momentum, or nesterov false")
        if self.zero_init_residual and self.optimizer == "muon":
            problems.append(
                "zero_init_residual: Muon holds every convolution at a fixed norm, none can start at 0; "
                "set it false, or optimizer sgd"
            )
        if isinstance(self.micro_batch, int) and self.micro_batch > self.batch_size:
            problems.append(f"micro_batch: {self.micro_batch} is above batch_size ({self.batch_size}); lower it")
        if isinstance(self.processes, int) and self.processes > 1 and self.device.startswith("cuda:"):
            problems.append(f"device: {self.device} is one GPU; give --device cuda for several processes")
        if problems:
            raise ValueError("\n".join(problems))
        return self


SECTIONS: tuple[type[Section], ...] = (
    DataSection,
    AugmentSection,
    ModelSection,
    OptimizerSection,
    StoppingSection,
    MachineSection,
    OutputSection,
)

ALIASES = {"train_dir": "data_dir"}
"""Other names under which a key is accepted."""
