"""Time and cost of a run on each instance type: a pure function of configuration, catalogue, prices and assumptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from wrn.aws.catalog import workload
from wrn.aws.catalog.images import Image, image_for
from wrn.aws.catalog.instances import CATALOGUE, Gpu, Instance, Mfu, mfu_of
from wrn.aws.catalog.prices import BUNDLED_REGION, Price, spot_estimate
from wrn.config.schema import Config
from wrn.config.stages import parse_stages
from wrn.errors import AwsError


@dataclass(frozen=True)
class Assumptions:
    """What has not been measured yet, in one place. Each appears in the output of `wrn plan`."""

    mfu: Mfu | None = None
    """The same for all GPUs. Unset: measured or assumed per GPU."""

    start_minutes: float = 3.0
    """Billed before the first step, while the image and the data are loaded."""

    scaling_nvlink: float = 0.95
    """Speed of several GPUs relative to linear scaling, over NVLink."""

    scaling_pcie: float = 0.80
    """The same over PCIe."""

    pass_milliseconds: float = 5.0
    """Minimum time of a forward-backward pass on any GPU, as Python has to launch its kernels."""

    usable_memory: float = 0.90
    """Fraction of a GPU's memory that training can use."""


@dataclass(frozen=True)
class Row:
    """One instance type. `hours` are billed: start, training and evaluation; `seconds_per_epoch` is training only.

    at_a_time: images per forward pass on each GPU, None if not even one fits.
    """

    instance: Instance
    gpus_used: int
    memory_gib: float
    at_a_time: int | None
    seconds_per_epoch: float
    hours: float
    cost: float
    spot_cost: float
    price: Price
    mfu: Mfu
    image: Image
    offered: bool
    remarks: tuple[str, ...]
    on_frontier: bool = False

    @property
    def usable(self) -> bool:
        return self.offered and self.at_a_time is not None


@dataclass(frozen=True)
class LeftOut:
    """An instance type without a row, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]


def make_plan(
    config: Config,
    prices: Mapping[str, Price],
    region: str,
    *,
    today: date,
    assumptions: Assumptions | None = None,
    image: str = "",
    catalogue: Iterable[Instance] = tuple(CATALOGUE.values()),
) -> Plan:
    """A row for each instance type that has a price and an image, cheapest first, with the frontier marked.

    image: a version or a URI, see `image_for`. Raises AwsError for an unknown region or version,
    and for a device other than all GPUs.
    """
    if config.device not in ("auto", "cuda"):
        raise AwsError(f"device: {config.device} leaves an instance's GPUs idle; give --device auto")
    assumptions = assumptions or Assumptions()
    image_for("ml.g5.xlarge", region, today=today, override=image)  # report what is wrong for all types first
    rows, left_out = [], []
    for instance in catalogue:
        if instance.name not in prices:
            left_out.append(LeftOut(instance.name, "price not known"))
            continue
        if config.processes != "auto" and config.processes > instance.gpus:
            left_out.append(LeftOut(instance.name, f"fewer GPUs than processes {config.processes}"))
            continue
        try:
            chosen = image_for(instance.name, region, today=today, override=image)
        except AwsError:
            left_out.append(LeftOut(instance.name, f"its {instance.gpu.name} is not supported by image {image}"))
            continue
        rows.append(_row(config, instance, prices[instance.name], region, chosen, assumptions))
    return Plan(tuple(mark_frontier(sorted(rows, key=_cost_then_time))), tuple(left_out))


def _row(config: Config, instance: Instance, price: Price, region: str, image: Image, assumptions: Assumptions) -> Row:
    used = instance.gpus if config.processes == "auto" else config.processes
    mfu = assumptions.mfu or mfu_of(instance.gpu)
    at_a_time = images_that_fit(config, instance.gpu, used, assumptions.usable_memory)
    share = workload.share_of_step(config, used, at_a_time)
    speed = used * peak(config, instance.gpu) * mfu.share * scaling(instance, used, assumptions)
    seconds = seconds_per_epoch(config, speed, used, share.passes * assumptions.pass_milliseconds / 1000)
    evaluation = workload.evaluation_flop(config) / speed
    hours = (60 * assumptions.start_minutes + config.epochs * seconds + evaluation) / 3600
    cost = hours * price.usd_per_hour
    remarks = [instance.remark] if instance.remark else []
    if not (offered := instance.offered_in(region)):
        remarks = [f"not offered in {region}"]
    if used < instance.gpus:
        remarks.append(f"processes {used} leaves {instance.gpus - used} GPUs idle")
    return Row(
        instance=instance,
        gpus_used=used,
        memory_gib=workload.memory_gib(config, share.at_a_time),
        at_a_time=None if at_a_time is None else share.at_a_time,
        seconds_per_epoch=seconds,
        hours=hours,
        cost=cost,
        spot_cost=spot_estimate(cost),
        price=price,
        mfu=mfu,
        image=image,
        offered=offered,
        remarks=(*remarks, *image.warnings),
    )


def peak(config: Config, gpu: Gpu) -> float:
    """FLOP/s of a GPU in the precision of the configuration."""
    return 1e12 * (gpu.tflops if config.amp else gpu.tflops_32)


def scaling(instance: Instance, used: int, assumptions: Assumptions) -> float:
    if used == 1:
        return 1.0
    return assumptions.scaling_nvlink if instance.link == "nvlink" else assumptions.scaling_pcie


def seconds_per_epoch(config: Config, speed: float, gpus: int, least_per_step: float) -> float:
    """Training time per epoch, averaged over the run.

    speed: FLOP/s reached by all GPUs together. least_per_step: minimum seconds per step.
    """
    images = workload.train_images(config)
    steps = -(-images // workload.global_batch(config, gpus))
    return sum(
        share * max(images * workload.flop_per_image(config, side) / speed, steps * least_per_step)
        for side, share in parse_stages(config.resolutions)
    )


def images_that_fit(config: Config, gpu: Gpu, gpus: int, usable: float) -> int | None:
    """Images per forward pass that fit the GPU's memory: as configured, or halved until they fit; else None.

    As in training, only `micro_batch: auto` on one GPU is halved, as processes that share a batch cannot.
    """
    images = workload.share_of_step(config, gpus).at_a_time
    may_halve = config.micro_batch == "auto" and gpus == 1
    while workload.memory_gib(config, images) > usable * gpu.memory_gib:
        if not may_halve or images == 1:
            return None
        images = -(-images // 2)
    return images


def mark_frontier(rows: Sequence[Row]) -> list[Row]:
    """Mark the usable rows that no other usable row beats by being as cheap and as fast, and better in one of them."""
    usable = [row for row in rows if row.usable]
    return [replace(row, on_frontier=row.usable and not any(_beats(other, row) for other in usable)) for row in rows]


def _beats(one: Row, other: Row) -> bool:
    return one.cost <= other.cost and one.hours <= other.hours and (one.cost, one.hours) != (other.cost, other.hours)


def within(rows: Iterable[Row], *, max_hours: float | None = None, max_cost: float | None = None) -> list[Row]:
    """The rows within the limits, unchanged. The limit applies to the on-demand cost, as spot is only an estimate."""
    return [
        row
        for row in rows
        if (max_hours is None or row.hours <= max_hours) and (max_cost is None or row.cost <= max_cost)
    ]


def _cost_then_time(row: Row) -> tuple[float, float, str]:
    return row.cost, row.hours, row.instance.name


def foreign_prices(rows: Iterable[Row], region: str) -> bool:
    """Whether bundled prices of another region are used instead of those of `region`."""
    return region != BUNDLED_REGION and any(row.price.region != region for row in rows)
