"""The SageMaker training instance types with NVIDIA GPUs, and the performance of their GPUs.

Shapes are those of EC2's describe-instance-types; which types can train is SageMaker's TrainingInstanceType list,
both as of 2026-11. Only types with a GPU that this project knows are listed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from wrn.config.gpus import DENSE_FLOPS
from wrn.errors import AwsError


@dataclass(frozen=True)
class Gpu:
    """A GPU, from its vendor's data sheet.

    tflops: dense 16-bit, with float32 accumulation. tflops_32: that of float32 training, which uses TF32 if the
    GPU has it. cuda: the last major version of CUDA that supports it, or None if all do.
    """

    name: str
    memory_gib: int
    tflops: float
    tflops_32: float
    cuda: int | None = None


TFLOPS = {name: flops / 1e12 for name, flops in DENSE_FLOPS.items()}

T4 = Gpu("T4", 16, TFLOPS["T4"], 8.1)
V100 = Gpu("V100", 16, TFLOPS["V100"], 15.7, cuda=12)
A10G = Gpu("A10G", 24, TFLOPS["A10G"], 35)
L4 = Gpu("L4", 24, TFLOPS["L4"], 60)
L40S = Gpu("L40S", 48, TFLOPS["L40S"], 181)
RTX_PRO_6000 = Gpu("RTX PRO 6000", 96, TFLOPS["RTX PRO 6000"], 250)
A100 = Gpu("A100", 40, TFLOPS["A100"], 156)
A100_80 = Gpu("A100 80G", 80, TFLOPS["A100"], 156)
H100 = Gpu("H100", 80, TFLOPS["H100"], 494)
H200 = Gpu("H200", 141, TFLOPS["H200"], 494)

GPUS = (T4, V100, A10G, L4, L40S, RTX_PRO_6000, A100, A100_80, H100, H200)


@dataclass(frozen=True)
class Mfu:
    """Model FLOP/s utilisation: the share of a GPU's `tflops` that training reaches."""

    share: float
    measured: bool
    source: str


ASSUMED_MFU = Mfu(0.40, False, "assumed; for comparison, airbench96 reaches 45% on an A100")

MEASURED_MFU: dict[str, Mfu] = {}
"""By GPU name, each from a file under benchmarks/results. Empty: nothing has been measured on these GPUs yet."""


def mfu_of(gpu: Gpu) -> Mfu:
    return MEASURED_MFU.get(gpu.name, ASSUMED_MFU)


Link = Literal["none", "pcie", "nvlink"]


@dataclass(frozen=True)
class Instance:
    """A training instance type. `link` joins its GPUs; `retired_in` are regions that no longer offer it."""

    name: str
    gpu: Gpu
    gpus: int
    vcpus: int
    ram_gib: int
    link: Link
    remark: str = ""
    retired_in: tuple[str, ...] = ()

    def offered_in(self, region: str) -> bool:
        return region not in self.retired_in


def _pcie(family: str, gpu: Gpu, sizes: dict[str, tuple[int, int, int]]) -> list[Instance]:
    return [
        Instance(f"ml.{family}.{size}", gpu, gpus, vcpus, ram, "pcie" if gpus > 1 else "none")
        for size, (gpus, vcpus, ram) in sizes.items()
    ]


def _p3(size: str, gpus: int, vcpus: int, ram_gib: int) -> Instance:
    # Not in the SageMaker price list of us-west-2; EC2's own list stopped naming p3 in 2026-05.
    link: Link = "nvlink" if gpus > 1 else "none"
    return Instance(f"ml.p3.{size}", V100, gpus, vcpus, ram_gib, link, "p3 is being retired", ("us-west-2",))


CATALOGUE: dict[str, Instance] = {
    instance.name: instance
    for instance in (
        *_pcie("g4dn", T4, {"xlarge": (1, 4, 16), "2xlarge": (1, 8, 32), "12xlarge": (4, 48, 192)}),
        *_pcie(
            "g5",
            A10G,
            {
                "xlarge": (1, 4, 16),
                "2xlarge": (1, 8, 32),
                "4xlarge": (1, 16, 64),
                "8xlarge": (1, 32, 128),
                "16xlarge": (1, 64, 256),
                "12xlarge": (4, 48, 192),
                "24xlarge": (4, 96, 384),
                "48xlarge": (8, 192, 768),
            },
        ),
        *_pcie(
            "g6",
            L4,
            {
                "xlarge": (1, 4, 16),
                "2xlarge": (1, 8, 32),
                "4xlarge": (1, 16, 64),
                "8xlarge": (1, 32, 128),
                "12xlarge": (4, 48, 192),
                "24xlarge": (4, 96, 384),
                "48xlarge": (8, 192, 768),
            },
        ),
        *_pcie(
            "g6e",
            L40S,
            {
                "xlarge": (1, 4, 32),
                "2xlarge": (1, 8, 64),
                "4xlarge": (1, 16, 128),
                "8xlarge": (1, 32, 256),
                "12xlarge": (4, 48, 384),
                "24xlarge": (4, 96, 768),
                "48xlarge": (8, 192, 1536),
            },
        ),
        *_pcie(
            "g7e",
            RTX_PRO_6000,
            {
                "2xlarge": (1, 8, 64),
                "4xlarge": (1, 16, 128),
                "8xlarge": (1, 32, 256),
                "12xlarge": (2, 48, 512),
                "24xlarge": (4, 96, 1024),
                "48xlarge": (8, 192, 2048),
            },
        ),
        _p3("2xlarge", 1, 8, 61),
        _p3("8xlarge", 4, 32, 244),
        _p3("16xlarge", 8, 64, 488),
        Instance("ml.p4d.24xlarge", A100, 8, 96, 1152, "nvlink"),
        Instance("ml.p4de.24xlarge", A100_80, 8, 96, 1152, "nvlink"),
        Instance("ml.p5.4xlarge", H100, 1, 16, 256, "none"),
        Instance("ml.p5.48xlarge", H100, 8, 192, 2048, "nvlink"),
        Instance("ml.p5e.48xlarge", H200, 8, 192, 2048, "nvlink"),
        Instance("ml.p5en.48xlarge", H200, 8, 192, 2048, "nvlink"),
    )
}


_OTHERS = {"ml.p3dn.24xlarge": V100}
"""Types that can train but are not compared; the CUDA support of their GPUs still matters."""


def gpu_of(name: str) -> Gpu | None:
    """The GPU of an instance type; None if it has none, or one that is not known here."""
    return CATALOGUE[name].gpu if name in CATALOGUE else _OTHERS.get(name)


def find_instance(name: str) -> Instance:
    """The instance type of this name. Raises AwsError naming the nearest known one."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    close = difflib.get_close_matches(name, CATALOGUE, n=1)
    hint = f"did you mean {close[0]}?" if close else "for example ml.g5.xlarge"
    raise AwsError(f'instance type: "{name}" is not in the catalogue; {hint}')
