"""The one schema: every key of config.yaml, every flag of `wrn train`, every hyperparameter of a SageMaker job.

Keys are unique. Sections group them for the reader, in files too; `Config` is all sections together, flat and frozen.
The defaults are the `standard` recipe, and config.yaml restates them for people (a test holds the two equal).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wrn.config.architecture import nearest_depths
from wrn.config.conflicts import MOST_EPOCHS, conflicts
from wrn.config.stages import as_text, format_stages, parse_milestones, parse_stages
from wrn.filesystem import user_path


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys; the docstring under a field is its help text."""

    name: ClassVar[str]
    """What configuration files call the section."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="after")
    @classmethod
    def _paths_can_be_reached(cls, value: Any) -> Any:
        return user_path(value) if isinstance(value, Path) else value


class DataSection(Section):
    """Data"""

    name = "data"

    dataset: Literal["auto", "cifar100", "cifar10", "folder", "synthetic"] = "cifar100"
    """Data set. auto: CIFAR-100 if it is on disk or can be downloaded quickly, else the synthetic set."""

    data_dir: Path | None = None
    """Folder that holds the data (alias: train_dir). Unset: $WRN_DATA_DIR, then ./data, then a download."""

    download: bool = True
    """Download the official archive if the data is not on disk."""

    skip_broken: bool = False
    """With dataset folder: skip images that cannot be read instead of stopping."""

    val_fraction: float = Field(0.05, ge=0, le=0.5)
    """Fraction of each class's training images held out to choose the best epoch. 0: none, the last epoch is it."""

    train_images: int = Field(0, ge=0)
    """Train on only this many images, the same number per class, for quick trials. 0: all."""

    num_workers: int = Field(2, ge=0, le=256)
    """Worker processes for the albumentations policy; nothing else uses them."""


class AugmentSection(Section):
    """Augmentation"""

    name = "augmentation"

    crop_padding: int = Field(4, ge=0, le=16)
    """Reflect-pad by this many pixels, then crop at random (pixels of a 32 px image; 0: off)."""

    flip: bool = True
    """Mirror half of the images."""

    augment: Literal["none", "randaugment", "trivialaugment", "albumentations"] = "none"
    """Policy applied to each image. trivialaugment: TrivialAugmentWide. albumentations: an optional extra."""

    randaugment_ops: int = Field(2, ge=1, le=8)
    """RandAugment: operations per image."""

    randaugment_magnitude: int = Field(14, ge=0, le=30)
    """RandAugment: strength, 0 to 30."""

    albumentations_file: Path | None = None
    """A serialised Albumentations pipeline (.yaml or .json). Unset: the built-in one."""

    cutout: int = Field(8, ge=0, le=32)
    """Side of the square that Cutout blanks out (pixels of a 32 px image; 0: off)."""

    random_erasing: float = Field(0.0, ge=0, le=1)
    """Probability of RandomErasing per image (0: off)."""

    mixup_alpha: float = Field(0.2, ge=0, le=10)
    """MixUp: the Beta parameter (0: off). If CutMix is on too, each image gets one of the two."""

    cutmix_alpha: float = Field(0.0, ge=0, le=10)
    """CutMix: the Beta parameter (0: off)."""

    mix_probability: float = Field(1.0, ge=0, le=1)
    """Fraction of images that MixUp or CutMix is applied to."""

    resolutions: str = ""
    """Progressive resolution, "20:0.35 24:0.4 32:0.25": side in pixels and fraction of the steps. Empty: 32 px."""

    @field_validator("resolutions", mode="before")
    @classmethod
    def _stages_as_text(cls, value: Any) -> Any:
        return as_text(value)

    @field_validator("resolutions", mode="after")
    @classmethod
    def _stages_are_readable(cls, value: str) -> str:
        return format_stages(parse_stages(value))


class ModelSection(Section):
    """Model"""

    name = "model"

    depth: int = Field(28, ge=10, le=10_000)
    """Number of layers, of the form 6n+4."""

    widen_factor: int = Field(10, ge=1, le=64)
    """Width multiplier: the three groups have 16, 32 and 64 channels times this."""

    dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout between the two convolutions of a block."""

    activation: Literal["relu", "silu"] = "relu"
    """Activation after each BN. relu: as in the paper. silu: learns faster in short runs, slightly slower on a CPU."""

    downsampling: Literal["stride", "pool"] = "stride"
    """How a block halves the resolution. stride: as in the paper. pool: averages 2x2 pixels before the convolutions."""

    num_classes: int = Field(0, ge=0)
    """Must match the data. 0: the number of classes in the data."""

    zero_init_residual: bool = False
    """Initialise the last convolution of each block to 0, so that the block starts as its shortcut."""

    bn_momentum: float = Field(0.1, gt=0, le=1)
    """Weight of each new batch in BN's running statistics."""

    @field_validator("depth")
    @classmethod
    def _depth_is_6n_plus_4(cls, depth: int) -> int:
        if (near := nearest_depths(depth)) is not None:
            raise ValueError(f"must be 6n+4; the nearest are {near[0]} and {near[1]}")
        return depth


class OptimizerSection(Section):
    """Training"""

    name = "training"

    epochs: int = Field(100, ge=1, le=MOST_EPOCHS)
    """Number of passes over the training images."""

    batch_size: int = Field(256, ge=1)
    """Images per optimiser step, in total over all processes."""

    micro_batch: int | Literal["auto"] = "auto"
    """Images per forward pass; gradients are accumulated. auto: the whole batch, halved when memory runs out."""

    optimizer: Literal["sgd", "muon"] = "sgd"
    """sgd: Nesterov SGD. muon: Muon for convolutions, SGD for the rest."""

    lr: float = Field(0.1, gt=0, le=1000)
    """Peak learning rate."""

    min_lr: float = Field(0.0, ge=0, le=1000)
    """Learning rate at the end of the schedule."""

    schedule: Literal["cosine", "linear", "step"] = "cosine"
    """How the learning rate decays after the warm-up, updated every step."""

    warmup_epochs: float = Field(5.0, ge=0, le=MOST_EPOCHS)
    """Linear warm-up from 0, in epochs (fractions allowed)."""

    milestones: str = ""
    """With schedule step: the epochs at which the learning rate is multiplied by lr_decay, "60 120 160"."""

    lr_decay: float = Field(0.2, gt=0, le=1)
    """With schedule step: the factor at each milestone."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD momentum."""

    nesterov: bool = True
    """Use Nesterov momentum."""

    weight_decay: float = Field(5e-4, ge=0, le=1)
    """Applied to convolution and linear weights only, not to BN or biases."""

    muon_lr: float = Field(0.02, gt=0, le=10)
    """Muon: peak learning rate of the convolutions; lr is used for the rest."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Fraction of the target spread evenly over all classes."""

    gradient_clip: float = Field(5.0, ge=0)
    """Maximum gradient norm (0: off; the norm is logged either way)."""

    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the averaged weights, which become the model (0: off)."""

    sam_rho: float = Field(0.0, ge=0, le=10)
    """Radius of sharpness-aware minimisation, which doubles the cost of a step (0: off)."""

    sam_batch: int = Field(0, ge=0)
    """SAM: images per perturbation, the m of m-sharpness (0: the whole micro-batch; 32 to 128 in the literature)."""

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

    name = "stopping"

    budget_minutes: float = Field(0.0, ge=0)
    """Train as many epochs as fit into this time less 5%, estimated from the first seconds (0: use epochs)."""

    budget_epochs: int = Field(0, ge=0, le=MOST_EPOCHS)
    """With budget_minutes: at most this many epochs (0: as many as fit)."""

    patience: int = Field(15, ge=0)
    """Stop after this many epochs without a better validation top-1 (0: never; needs val_fraction)."""

    target_accuracy: float = Field(0.0, ge=0, le=1)
    """Stop when the validation top-1 reaches this fraction (0: never; needs val_fraction)."""


class MachineSection(Section):
    """Machine"""

    name = "machine"

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    amp: bool = True
    """Mixed precision."""

    amp_dtype: Literal["auto", "bf16", "fp16"] = "auto"
    """auto: bf16 where the hardware is fast at it, fp16 on older GPUs, fp32 elsewhere."""

    compile: bool | Literal["graphs"] = False
    """torch.compile: a minute's wait for faster steps; worth it on a GPU. graphs: CUDA graphs too (one process)."""

    cpu_kernels: bool = True
    """On a CPU, use wrn's own kernels for BN with activation and 3x3 convolutions, compiled on first use."""

    processes: int | Literal["auto"] = "auto"
    """Processes per host that train together. auto: one per GPU on SageMaker, one elsewhere."""

    scale_lr: Literal["none", "linear"] = "none"
    """With several processes. none: they share batch_size. linear: batch_size each, learning rates scaled to match."""

    sync_bn: bool = False
    """With several GPUs: compute BN statistics over all of them instead of on each GPU."""

    deterministic: bool = False
    """Use only deterministic kernels: bit-identical results, slower on a GPU. CPUs are always deterministic."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Determines the initial weights, the order of the images, their augmentation and the validation split."""

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

    name = "output"

    output_dir: Path | None = None
    """The run directory. Unset: runs/<time>-<recipe>."""

    model_dir: Path | None = None
    """Where the trained model goes. Unset: model/ in the run directory."""

    checkpoint_dir: Path | None = None
    """Where checkpoints go. Unset: checkpoints/ in the run directory."""

    checkpoint_epochs: int = Field(10, ge=0)
    """Save a checkpoint every N epochs (0: not by epochs)."""

    checkpoint_minutes: float = Field(2.0, ge=0)
    """Save a checkpoint every X minutes, fractions allowed (0: not by time)."""

    keep: int = Field(2, ge=2)
    """How many checkpoints to keep on disk, at least two."""

    resume: str = "auto"
    """auto: resume from the newest valid checkpoint, if any. never: start over. Or the path of a checkpoint."""

    resume_anyway: bool = False
    """Resume even if the checkpoint was made with a different configuration."""

    eval_epochs: int = Field(1, ge=0)
    """Evaluate every N epochs, and always at the end (0: only at the end)."""

    tta: bool = False
    """Also report results with test-time augmentation (mirror images)."""

    progress: Literal["auto", "rich", "plain"] = "auto"
    """auto: a live progress view on a terminal, one plain line per epoch elsewhere."""

    tensorboard: bool = False
    """Write TensorBoard events to the run directory."""

    @field_validator("resume")
    @classmethod
    def _checkpoint_can_be_reached(cls, value: str) -> str:
        return value if value in ("auto", "never") else str(user_path(value))


class Fields(
    OutputSection,
    MachineSection,
    StoppingSection,
    OptimizerSection,
    ModelSection,
    AugmentSection,
    DataSection,
):
    """Every key, each valid by itself. config.yaml explains the same keys."""


class Config(Fields):
    """A complete configuration, whose values fit together."""

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        if problems := [conflict.problem for conflict in conflicts(dict(self)) if conflict.problem]:
            raise ValueError("\n".join(problems))
        return self

    @property
    def given(self) -> frozenset[str]:
        """The keys that a person set. All others are defaults, which adapt where they do not fit."""
        return frozenset(self.model_fields_set)

    def adapted(self, **values: Any) -> Config:
        """A copy with other values. It does not count them as given, unless they were before."""
        return self.model_construct(_fields_set=set(self.given), **{**dict(self), **values})


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
"""Other accepted names for a key."""
