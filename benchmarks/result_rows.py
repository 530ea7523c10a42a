"""What the tables say of each record in benchmarks/results: a line for the front page, and every figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
Row = tuple[str, str]
"""What was measured, and what came of it."""

DATA_PEER = "the faster of DataLoader + Pillow and + NumPy"
MORE_DATA_PEERS = {
    "Albumentations": "DataLoader + Albumentations",
    "torchvision": "DataLoader + torchvision's v2 transforms",
    "torchvision, one draw a batch": "torchvision's v2 transforms with one random draw for the whole batch",
}


def machine(environment: Record) -> str:
    hardware = environment["hardware"]
    if hardware["gpu"]:
        return str(hardware["gpu"])
    # Those that do not say were all measured with bf16 and without AMX.
    bf16 = "bf16" if hardware.get("cpu_bf16", True) else "no bf16"
    instructions = "AMX" if hardware.get("cpu_amx") else hardware["cpu_capability"]
    return f"{hardware['cores']} cores of {hardware['cpu']} ({instructions}, {bf16})"


def headline(record: Record) -> Row:
    """The one row of a record: its only one, or what its rows come to. Raises KeyError for accuracies."""
    kind = record["benchmark"]
    return HEADLINES[kind](record) if kind in HEADLINES else ROWS[kind](record)[0]


def rows_of(record: Record) -> list[Row]:
    """Every row of a record; none for accuracies, which have a table of their own."""
    kind = record["benchmark"]
    return ROWS[kind](record) if kind in ROWS else []


def training(record: Record) -> list[Row]:
    peers = {"step": "a plain fp32 PyTorch step", "loop": "a plain fp32 PyTorch loop with DataLoader"}
    peers["step, timm"] = "timm's step, same precision and layout"
    return [
        (f"training, {workload(record)}", f"**{ratio['median']:.2f}x** {peers.get(kind, kind)}")
        for kind, ratio in record["ratio"].items()
    ]


def training_headline(record: Record) -> Row:
    step, loop = (record["ratio"][kind]["median"] for kind in ("step", "loop"))
    measured = f"**{step:.2f}x** a plain fp32 PyTorch step, **{loop:.2f}x** the loop with DataLoader"
    if timm := record["ratio"].get("step, timm"):
        measured += f", **{timm['median']:.2f}x** timm's step in the same precision"
    return f"training, {workload(record)}", measured


def data(record: Record) -> list[Row]:
    rows = []
    for policy, ratio in record["ratio"].items():
        ratios = {DATA_PEER: ratio}
        for name, peer in MORE_DATA_PEERS.items():
            if name in record["results"][policy]:
                ratios[peer] = record["results"][policy][name]["wrn_is_faster_by"]
        rows += [
            (f"batch path, {policy}, one thread", f"**{faster['median']:.2f}x** {peer}")
            for peer, faster in ratios.items()
        ]
    return rows


def data_headline(record: Record) -> Row:
    ratios = [ratio["median"] for ratio in record["ratio"].values()]
    what = f"batch path, {len(ratios)} augmentation policies, one thread"
    measured = f"**{min(ratios):.2f}x to {max(ratios):.2f}x** {DATA_PEER}"
    named = [
        of["torchvision"]["wrn_is_faster_by"]["median"] for of in record["results"].values() if "torchvision" in of
    ]
    if named:
        measured += f", **{min(named):.0f}x to {max(named):.0f}x** + torchvision's v2 transforms"
    return what, measured


def training_speed(record: Record) -> list[Row]:
    return [
        (
            f"training step, {workload(record)}, {stage['side']} px",
            f"{stage['images_per_s']['median']:,.1f} images/s, **{stage['share_of_convolutions_alone']:.1%}** of "
            f"the speed of torch's convolutions alone, MFU {stage['mfu']:.1%} of the peak measured there",
        )
        for stage in record["stages"]
    ]


def training_speed_headline(record: Record) -> Row:
    shares = [stage["share_of_convolutions_alone"] for stage in record["stages"]]
    several = f"{min(shares):.1%} to {max(shares):.1%}" if len(shares) > 1 else f"{shares[0]:.1%}"
    what = f"training step, {workload(record)}"
    speed = f"**{several}** of the speed of torch's convolutions alone"
    return what, f"{speed}, {record['seconds_per_epoch']:,.0f} s an epoch"


def inference_speed(record: Record) -> list[Row]:
    what = f"prediction, {record['network']}, {record['precision']}"
    return [
        (
            f"{what}, batch {result['batch_size']}",
            f"{1e3 * result['seconds']['median']:.1f} ms (p99 {1e3 * result['seconds']['p99']:.1f} ms), "
            f"{result['images_per_s']:,.1f} images/s",
        )
        for result in record["results"]
    ]


def inference_headline(record: Record) -> Row:
    first, last = record["results"][0], record["results"][-1]
    milliseconds = {name: 1e3 * first["seconds"][name] for name in ("median", "p99")}
    one = f"**{milliseconds['median']:.1f} ms** at batch {first['batch_size']} (p99 {milliseconds['p99']:.1f} ms)"
    many = f"{last['images_per_s']:,.1f} images/s at batch {last['batch_size']}"
    return f"prediction, {record['network']}, {record['precision']}", f"{one}, {many}"


def checkpoint(record: Record) -> list[Row]:
    what = f"checkpoint of {record['network']}, {record['bytes'] / 1e6:.0f} MB"
    took = {name: figures["median"] for name, figures in record["seconds"].items()}
    ratio = record["step_after_checkpoint"]
    return [
        (f"{what}: the step after it", f"**{ratio['median']:.2f}x** the median step (at most {ratio['max']:.2f}x)"),
        (
            f"{what}: written, flushed, verified",
            f"{took['save']:.2f} s (`torch.save` without those {took['torch_save']:.2f} s)",
        ),
        (f"{what}: verified and loaded", f"{took['load']:.2f} s (`torch.load` {took['torch_load']:.2f} s)"),
    ]


def faults(record: Record) -> list[Row]:
    kills = record["kills"]
    repeated, worst = sum(kill["steps_lost"] for kill in kills), max(kills, key=lambda kill: kill["seconds_lost"])
    what = f"a run killed {len(kills)} times, a checkpoint every {record['interval_s']:g} s"
    same = "the same history" if not record["history_differs"] else "a DIFFERENT history"
    lost = f"{repeated} steps repeated, at most {worst['seconds_lost']:.2f} s of work lost by a kill"
    if worst["seconds_lost"] > record["interval_s"] and "longest_step_s" in worst:
        lost += f", where the machine stalled for {worst['longest_step_s']:.2f} s"
    return [(what, f"**{record['bytes_differing']} bytes differ** from an uninterrupted run, {same}; {lost}")]


def scaling(record: Record) -> list[Row]:
    what = f"{record['network']}, batch {record['batch_size']}: {record['processes']} processes on the same cores"
    alone = record["average_alone"]
    averaging = f"averaging {alone['bytes'] / 1e6:.0f} MB alone would take {alone['share_of_step']:.1%} of a step"
    return [(what, f"**{record['efficiency']['median']:.1%}** of the speed of one; {averaging}")]


def workload(record: Record) -> str:
    return f"{record['network']}, batch {record['batch_size']}, {record['precision']}"


ROWS: dict[str, Callable[[Record], list[Row]]] = {
    **{"train": training, "data": data, "training_speed": training_speed, "inference_speed": inference_speed},
    **{"checkpoint": checkpoint, "faults": faults, "scaling": scaling},
}
"""By what was measured, in the order of the tables."""

HEADLINES: dict[str, Callable[[Record], Row]] = {
    **{"train": training_headline, "data": data_headline, "training_speed": training_speed_headline},
    "inference_speed": inference_headline,
}
"""Where a record has several rows and the first does not stand for them."""
