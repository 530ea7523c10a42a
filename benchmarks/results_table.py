"""Write the tables of README.md and benchmarks/README.md from the records in benchmarks/results: none is typed by hand.

make results
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def machine(environment: dict[str, Any]) -> str:
    hardware = environment["hardware"]
    return hardware["gpu"] or f"{hardware['cores']} cores of {hardware['cpu']}"


def where(environment: dict[str, Any]) -> str:
    return f"{environment['date'][:10]}, commit {environment['commit']}, torch {environment['versions']['torch']}"


def accuracy_rows(records: dict[str, dict[str, Any]]) -> list[list[str]]:
    """A row for each recipe, machine and number of processes, over all its seeds."""
    runs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, record in records.items():
        if record["benchmark"] == "accuracy":
            processes = record["config"]["processes"]
            together = "" if processes in ("auto", 1) else f", {processes} processes"
            what = f"`{record['recipe']}` ({record['network']}, {record['epochs']} epochs{together})"
            key = (what, machine(record["environment"]))
            runs.setdefault(key, {})[name] = record
    rows = [["recipe", "data", "top-1", "top-1 with mirror images", "top-5", "training time", "on", "records"]]
    for (what, on), of_seeds in sorted(runs.items()):
        metrics = [record["metrics"] for record in of_seeds.values()]
        mirrored = [scores["tta"]["top1"] for scores in metrics if "tta" in scores]
        minutes = [record["training_seconds"] / 60 for record in of_seeds.values()]
        links = "; ".join(f"seed {record['seed']}: {link(name, record)}" for name, record in of_seeds.items())
        rows.append(
            [
                what,
                f"{metrics[0]['dataset']}, {metrics[0]['split']}, {metrics[0]['images']:,} images",
                f"**{mean_of([scores['top1'] for scores in metrics])}**",
                mean_of(mirrored),
                mean_of([scores["top5"] for scores in metrics]),
                f"{statistics.median(minutes):.1f} min",
                on,
                links,
            ]
        )
    return rows


def mean_of(shares: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    if not shares:
        return ""
    spread = f" ± {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{statistics.mean(shares):.2%}{spread}"


def speed_rows(records: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["what", "against", "ratio", "on", "record"]]
    for name, record in records.items():
        on = machine(record["environment"])
        for what, peer, ratio in ratios(record):
            rows.append([what, peer, f"**{ratio:.2f}x**", on, link(name, record)])
    return rows


def ratios(record: dict[str, Any]) -> list[tuple[str, str, float]]:
    """(what, against what, how many times as fast) of one record."""
    if record["benchmark"] == "train":
        peer = {"step": "plain fp32 PyTorch step", "loop": "plain fp32 PyTorch loop with DataLoader"}
        peer["step, timm"] = "step of timm, same precision and layout"
        what = f"training, {record['network']}, batch {record['batch_size']}, {record['precision']}"
        return [(what, peer.get(kind, kind), ratio["median"]) for kind, ratio in record["ratio"].items()]
    if record["benchmark"] == "data":
        return [
            (f"batch path, {case}, one thread", "the faster of DataLoader + Pillow and + NumPy", ratio["median"])
            for case, ratio in record["ratio"].items()
        ]
    return []


def safety_rows(records: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = [["what", "measured", "on", "record"]]
    for name, record in records.items():
        on = machine(record["environment"])
        for what, measured in safety(record):
            rows.append([what, measured, on, link(name, record)])
    return rows


def safety(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(what was tried, what came of it) of one record."""
    if record["benchmark"] == "faults":
        kills = record["kills"]
        repeated, worst = sum(kill["steps_lost"] for kill in kills), max(kills, key=lambda kill: kill["seconds_lost"])
        what = f"a run killed {len(kills)} times, a checkpoint every {record['interval_s']:g} s"
        same = "the same history" if not record["history_differs"] else "ANOTHER history"
        lost = f"{repeated} steps repeated, at most {worst['seconds_lost']:.2f} s of work lost at once"
        if worst["seconds_lost"] > record["interval_s"] and "longest_step_s" in worst:
            lost += f", where the machine stalled for {worst['longest_step_s']:.2f} s"
        return [(what, f"**{record['bytes_differing']} bytes differ** from the run in peace, {same}; {lost}")]
    if record["benchmark"] == "scaling":
        what = f"{record['network']}, batch {record['batch_size']}: {record['processes']} processes on the same cores"
        alone = record["average_alone"]
        averaging = f"averaging {alone['bytes'] / 1e6:.0f} MB alone would take {alone['share_of_step']:.1%} of a step"
        return [(what, f"**{record['efficiency']['median']:.1%}** of the speed of one; {averaging}")]
    if record["benchmark"] == "training_speed":
        what = f"{record['network']}, batch {record['batch_size']}, {record['precision']}"
        return [
            (
                f"{what}, {stage['side']} px: a step of training",
                f"{stage['images_per_s']['median']:,.1f} images/s, **{stage['share_of_convolutions_alone']:.1%}** of "
                f"the speed of its convolutions alone, MFU {stage['mfu']:.1%} of the peak measured there",
            )
            for stage in record["stages"]
        ]
    if record["benchmark"] == "inference_speed":
        return [
            (
                f"{record['network']}, {record['precision']}: prediction, {result['batch_size']} at once",
                f"{1e3 * result['seconds']['median']:.1f} ms (p99 {1e3 * result['seconds']['p99']:.1f} ms), "
                f"{result['images_per_s']:,.1f} images/s",
            )
            for result in record["results"]
        ]
    if record["benchmark"] == "checkpoint":
        what = f"checkpoint of {record['network']}, {record['bytes'] / 1e6:.0f} MB"
        took = {name: figures["median"] for name, figures in record["seconds"].items()}
        ratio = record["step_after_checkpoint"]
        return [
            (f"{what}: the step after it", f"**{ratio['median']:.2f}x** the median step (at most {ratio['max']:.2f}x)"),
            (
                f"{what}: written, flushed, checked",
                f"{took['save']:.2f} s (`torch.save` in place {took['torch_save']:.2f} s)",
            ),
            (f"{what}: checked and loaded", f"{took['load']:.2f} s (`torch.load` {took['torch_load']:.2f} s)"),
        ]
    return []


def link(name: str, record: dict[str, Any]) -> str:
    return f"[{where(record['environment'])}](benchmarks/results/{name})"


def markdown(rows: list[list[str]]) -> str:
    if len(rows) == 1:
        return ""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def operation_rows(records: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Kinds of operations by measured stage: each one's share of a step."""
    stages = {
        f"{record['network']}, batch {record['batch_size']}, {stage['side']} px": stage["operations"]
        for record in records.values()
        if record["benchmark"] == "training_speed"
        for stage in record["stages"]
        if "operations" in stage  # not in records of before it was measured
    }
    totals: dict[str, float] = {}
    for operations in stages.values():
        for kind, share in operations.items():
            totals[kind] = totals.get(kind, 0.0) + share
    kinds = sorted((kind for kind in totals if totals[kind] > 0.001), key=lambda kind: -totals[kind])
    return [["", *stages], *([kind, *(f"{s.get(kind, 0.0):.1%}" for s in stages.values())] for kind in kinds)]


TABLES: dict[str, tuple[Callable[[dict[str, dict[str, Any]]], list[list[str]]], ...]] = {
    "README.md": (accuracy_rows, speed_rows, safety_rows),
    "benchmarks/README.md": (operation_rows,),
}
"""By file, the tables between its marks."""


def with_tables(file: str) -> str:
    """The text of a file of TABLES with the tables of the records as they are."""
    paths = sorted((ROOT / "benchmarks/results").glob("*.json"))
    records = {path.name: json.loads(path.read_text()) for path in paths}
    tables = "\n\n".join(table for table in (markdown(rows(records)) for rows in TABLES[file]) if table)
    before, _, rest = (ROOT / file).read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def main() -> None:
    for file in TABLES:
        (ROOT / file).write_text(with_tables(file), encoding="utf-8")


if __name__ == "__main__":
    main()
